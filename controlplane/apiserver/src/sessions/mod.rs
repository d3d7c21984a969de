//! Sessions of the dashboard: how a browser that holds no certificate stays signed in without a script ever seeing what it
//! is signed in by.
//!
//! A cookie holds a user, or a bearer token that is asked after at every request, sealed by a key that comes of the cluster's
//! signing key: it outlives restarts and is good at every server of the cluster. It is believed only of requests that the
//! server's own pages make. Links that sign in once are kept in memory alone; a sign-in at an OpenID Connect issuer
//! ([`sign_in`]) is kept in a cookie of its own until it is through, so that any server of the cluster ends what another began.

mod cookie;
mod route;
mod seal;
pub mod sign_in;

use std::collections::HashMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

pub(crate) use route::routes;

use crate::authn::UserInfo;
use crate::authn::oidc::jwt::Token;
use cookie::Held;
use seal::Seal;
use sign_in::{Pending, Refresh};

/// How long a session lasts, whatever happens.
const LASTS: SignedDuration = SignedDuration::from_hours(12);
/// How long a link that signs in once is good.
const LINK: SignedDuration = SignedDuration::from_mins(15);
/// Links that wait at once, and sessions that were ended before their time; the oldest give way.
const LINKS: usize = 100;
const ENDED: usize = 10_000;
/// For what else than a session something is sealed.
const PENDING: &[u8] = b"wherry dashboard sign-in v1";
const REFRESH: &[u8] = b"wherry dashboard refresh v1";
/// Browsers keep cookies of about 4 KB.
const MAX_TOKEN: usize = 2800;

/// By what somebody is signed in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Holder {
    User(Person),
    /// Asked after at each request, so that it ends when the token does.
    Token(String),
}

impl Holder {
    /// Whether it is a token of this issuer, as it says itself.
    fn is_of(&self, issuer: Option<&str>) -> bool {
        match self {
            Holder::Token(token) => {
                issuer.is_some() && Token::read(token).is_some_and(|token| token.issuer() == issuer)
            }
            Holder::User(_) => false,
        }
    }

    /// When a token ends, as it says itself.
    fn ends(&self) -> Option<Timestamp> {
        let Holder::Token(token) = self else { return None };
        let token = Token::read(token)?;
        let seconds = token.claims()?.get("exp")?.as_f64()?;
        Timestamp::from_second(seconds as i64).ok()
    }
}

/// A user as cookies hold it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Person {
    name: String,
    groups: Vec<String>,
}

impl From<Person> for UserInfo {
    fn from(person: Person) -> Self {
        UserInfo {
            username: person.name,
            groups: person.groups,
            ..UserInfo::default()
        }
    }
}

/// What a cookie holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Session {
    id: String,
    ends: Timestamp,
    holder: Holder,
}

/// Makes, finds and ends sessions.
pub(crate) struct Sessions {
    seal: Seal,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    links: HashMap<String, (Person, Timestamp)>,
    ended: HashMap<String, Timestamp>,
}

impl Sessions {
    /// `secret` is known to the cluster's servers alone.
    pub(crate) fn new(secret: &[u8]) -> Self {
        Sessions {
            seal: Seal::new(secret),
            table: Mutex::default(),
        }
    }

    /// A code that signs a user in once.
    pub(crate) fn link(&self, name: &str, groups: &[&str], now: Timestamp) -> String {
        let code = seal::random();
        let person = Person {
            name: name.to_owned(),
            groups: groups.iter().copied().map(str::to_owned).collect(),
        };
        let mut table = self.table.lock();
        let links = &mut table.links;
        keep(links, LINKS, now, |(_, ends)| *ends);
        links.insert(code.clone(), (person, after(now, LINK)));
        code
    }

    /// Whom a code signs in; it is used up by that.
    fn redeem(&self, code: &str, now: Timestamp) -> Option<Holder> {
        let (person, ends) = self.table.lock().links.remove(code)?;
        (now < ends).then_some(Holder::User(person))
    }

    /// A new session as a cookie's value. It ends at `ends`.
    fn open(&self, holder: Holder, ends: Timestamp) -> Option<String> {
        let session = Session {
            id: seal::random(),
            ends,
            holder,
        };
        self.close(seal::PURPOSE, &session)
    }

    fn close(&self, purpose: &[u8], what: &impl Serialize) -> Option<String> {
        self.seal.close(purpose, &serde_json::to_vec(what).ok()?)
    }

    fn unseal<T: serde::de::DeserializeOwned>(&self, purpose: &[u8], value: &str) -> Option<T> {
        serde_json::from_slice(&self.seal.open(purpose, value)?).ok()
    }

    /// A sign-in that has begun in the browser of these headers.
    fn pending(&self, headers: &http::HeaderMap, now: Timestamp) -> Option<Pending> {
        let pending: Pending = self.unseal(PENDING, cookie::value(headers, Held::Pending)?)?;
        (now < pending.ends).then_some(pending)
    }

    /// By what the session of these headers is renewed.
    fn refresh(&self, headers: &http::HeaderMap, now: Timestamp) -> Option<Refresh> {
        let refresh: Refresh = self.unseal(REFRESH, cookie::value(headers, Held::Refresh)?)?;
        (now < refresh.ends).then_some(refresh)
    }

    /// By what a cookie's value signs in.
    fn find(&self, value: &str, now: Timestamp) -> Option<Session> {
        let session: Session = self.unseal(seal::PURPOSE, value)?;
        let ended = now >= session.ends || self.table.lock().ended.contains_key(&session.id);
        (!ended).then_some(session)
    }

    /// Ends a session here, before its time. Other servers of the cluster do not hear of it.
    fn end(&self, session: Session, now: Timestamp) {
        let mut table = self.table.lock();
        let ended = &mut table.ended;
        keep(ended, ENDED, now, |ends| *ends);
        ended.insert(session.id, session.ends);
    }

    /// By what a request is signed in, if the server's own page made it.
    pub(crate) fn holder(&self, parts: &http::request::Parts, now: Timestamp) -> Option<Holder> {
        let value = cookie::value(&parts.headers, Held::Session)?;
        if !cookie::of_own_page(&parts.headers, &parts.uri) {
            return None;
        }
        self.find(value, now).map(|session| session.holder)
    }
}

fn after(now: Timestamp, duration: SignedDuration) -> Timestamp {
    now.saturating_add(duration).unwrap_or(Timestamp::MAX)
}

/// Forgets what is past, and what ends first where there is no room for another.
fn keep<V>(table: &mut HashMap<String, V>, most: usize, now: Timestamp, ends: impl Fn(&V) -> Timestamp) {
    table.retain(|_, value| ends(value) > now);
    while table.len() >= most {
        let first = table
            .iter()
            .min_by_key(|(_, value)| ends(value))
            .map(|(key, _)| key.clone());
        match first {
            Some(key) => drop(table.remove(&key)),
            None => return,
        }
    }
}

/// One for the pipeline: whoever is in.
pub(crate) type Shared = Arc<Sessions>;

#[cfg(test)]
mod tests;
