//! Content negotiation: in which form and encoding an answer goes out.
//!
//! A clause of an `Accept` header counts when both its media type and its parameters can be met; else the next one is
//! looked at, best quality first.

use api::Status;
use schema::protobuf::Message;

/// What of an object goes along with a table row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Include {
    None,
    Metadata,
    Object,
}

/// The shape of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Object,
    Metadata,
    Table,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Json,
    Yaml,
    Protobuf,
}

/// The outcome of a negotiation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Accepted {
    pub(crate) form: Form,
    pub(crate) encoding: Encoding,
    /// The metadata was asked for as that of a list.
    pub(crate) list: bool,
    /// Indented, for people.
    pub(crate) pretty: bool,
}

impl Accepted {
    pub(crate) const JSON: Accepted = Accepted {
        form: Form::Object,
        encoding: Encoding::Json,
        list: false,
        pretty: false,
    };
}

pub(crate) const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// What is spoken, in the order in which a wildcard gets it.
const OFFERED: [(&str, Encoding); 3] = [
    ("application/json", Encoding::Json),
    ("application/yaml", Encoding::Yaml),
    (PROTOBUF, Encoding::Protobuf),
];

/// What a watch can be sent as.
const STREAMED: [&str; 2] = [
    "application/json;stream=watch",
    "application/vnd.kubernetes.protobuf;stream=watch",
];

/// One clause of an `Accept` header.
struct Clause<'a> {
    media_type: &'a str,
    /// Thousandths.
    quality: u32,
    as_: Option<&'a str>,
    group: Option<&'a str>,
    version: Option<&'a str>,
    stream: &'a str,
    pretty: bool,
}

impl<'a> Clause<'a> {
    fn parse(text: &'a str) -> Self {
        let mut parts = text.split(';').map(str::trim);
        let mut clause = Clause {
            media_type: parts.next().unwrap_or_default(),
            quality: 1000,
            as_: None,
            group: None,
            version: None,
            stream: "",
            pretty: false,
        };
        for (name, value) in parts.filter_map(|p| p.split_once('=')) {
            let value = value.trim().trim_matches('"');
            match name.trim() {
                "q" => clause.quality = (value.parse::<f32>().unwrap_or(0.0).clamp(0.0, 1.0) * 1000.0) as u32,
                "as" => clause.as_ = Some(value),
                "g" => clause.group = Some(value),
                "v" => clause.version = Some(value),
                "stream" => clause.stream = value,
                "pretty" => clause.pretty = value == "1",
                _ => {}
            }
        }
        clause
    }

    /// What its media type may be met with.
    fn encodings(&self) -> impl Iterator<Item = Encoding> {
        OFFERED
            .iter()
            .filter(|(media, _)| match self.media_type {
                "*/*" | "application/*" => true,
                exact => exact == *media,
            })
            .map(|(_, encoding)| *encoding)
    }

    fn converts(&self) -> bool {
        self.as_.is_some() || self.group.is_some() || self.version.is_some()
    }

    /// The form it asks for, and whether it is that of a list.
    fn form(&self) -> Option<(Form, bool)> {
        if !self.converts() {
            return Some((Form::Object, false));
        }
        if self.group != Some("meta.k8s.io") || self.version != Some("v1") {
            return None;
        }
        match self.as_? {
            "Table" => Some((Form::Table, false)),
            "PartialObjectMetadata" => Some((Form::Metadata, false)),
            "PartialObjectMetadataList" => Some((Form::Metadata, true)),
            _ => None,
        }
    }

    /// The first way to meet it.
    fn accepted(&self, can: impl Fn(Form, Encoding) -> bool) -> Option<Accepted> {
        let (form, list) = self.form()?;
        let streams = |encoding| self.stream.is_empty() || (self.stream == "watch" && encoding != Encoding::Yaml);
        let encoding = self.encodings().find(|e| streams(*e) && can(form, *e))?;
        Some(Accepted {
            form,
            encoding,
            list,
            pretty: self.pretty,
        })
    }
}

/// The clauses of an `Accept` header, the best first: by quality, then the more specific ones.
fn clauses(accept: &str) -> Vec<Clause<'_>> {
    let mut clauses: Vec<Clause<'_>> = accept.split(',').map(Clause::parse).filter(|c| c.quality > 0).collect();
    clauses.sort_by_key(|clause| {
        (
            std::cmp::Reverse(clause.quality),
            clause.media_type.matches('*').count(),
        )
    });
    clauses
}

/// The best of what an `Accept` header asks for and this server offers; `protobuf` says whether the kind has a message.
/// Tables have none, metadata has one whatever the kind.
pub(crate) fn negotiate(accept: Option<&str>, protobuf: impl Fn() -> bool) -> Result<Accepted, Status> {
    let accept = match accept.map(str::trim) {
        None | Some("" | "application/json" | "*/*") => return Ok(Accepted::JSON),
        Some(accept) => accept,
    };
    let can = |form, encoding| match (form, encoding) {
        (Form::Object, Encoding::Protobuf) => protobuf(),
        (Form::Table, Encoding::Protobuf) => false,
        _ => true,
    };
    let found = clauses(accept).iter().find_map(|clause| clause.accepted(can));
    found.ok_or_else(not_acceptable)
}

/// Whether a kind can be sent as protobuf.
pub(crate) fn has_message(api_version: &str, kind: &str) -> bool {
    Message::of_kind(api_version, kind).is_some()
}

/// The same for what can only go out as it is: a Status, a discovery document.
pub(crate) fn negotiate_plain(accept: Option<&str>) -> Result<Accepted, Status> {
    negotiate_whole(accept, || true)
}

/// The same for the answer of a virtual, whose kind need not have a message.
pub(crate) fn negotiate_whole(accept: Option<&str>, protobuf: impl Fn() -> bool) -> Result<Accepted, Status> {
    let accept = match accept.map(str::trim) {
        None | Some("" | "application/json" | "*/*") => return Ok(Accepted::JSON),
        Some(accept) => accept,
    };
    let can = |form, encoding| form == Form::Object && (encoding != Encoding::Protobuf || protobuf());
    let found = clauses(accept).iter().find_map(|clause| clause.accepted(can));
    found.ok_or_else(not_acceptable)
}

/// 406 with what is spoken.
fn not_acceptable() -> Status {
    Status::not_acceptable(&OFFERED.map(|(media, _)| media))
}

/// Whether a verb can answer in the form that was negotiated.
pub(crate) fn check(accepted: Accepted, verb: &str, list_type: impl Fn() -> (String, String)) -> Result<(), Status> {
    let refuse = |message: String| {
        let mut status = Status::not_acceptable(&[]);
        status.message = message;
        Err(status)
    };
    match (verb, accepted) {
        (
            "watch",
            Accepted {
                encoding: Encoding::Yaml,
                ..
            },
        ) => Err(Status::not_acceptable(&STREAMED)),
        ("watch", _) => Ok(()),
        (
            "list" | "deletecollection",
            Accepted {
                form: Form::Metadata,
                list: false,
                ..
            },
        ) => refuse(format!(
            "you requested PartialObjectMetadata, but the requested object is a list ({})",
            list_type().1
        )),
        ("list" | "deletecollection", _) => Ok(()),
        (
            _,
            Accepted {
                form: Form::Metadata,
                list: true,
                ..
            },
        ) => refuse(format!(
            "you requested PartialObjectMetadataList, but the requested object is not a list ({})",
            list_type().0
        )),
        _ => Ok(()),
    }
}

/// How the list of groups that aggregated discovery has is to be encoded, if an `Accept` header asks for it.
pub(crate) fn aggregated_discovery(accept: Option<&str>) -> Option<Encoding> {
    clauses(accept?).iter().find_map(|clause| {
        let asked = clause.as_ == Some("APIGroupDiscoveryList")
            && clause.group == Some("apidiscovery.k8s.io")
            && clause.version == Some("v2");
        clause.encodings().find(|_| asked)
    })
}

/// The first offer, in the client's order of preference, that an `Accept` header takes; the first of all without a header.
pub(crate) fn choose<T: Copy>(accept: Option<&str>, offers: &[(&'static str, T)]) -> Option<T> {
    let Some(accept) = accept.map(str::trim).filter(|accept| !accept.is_empty()) else {
        return offers.first().map(|(_, offer)| *offer);
    };
    clauses(accept).iter().find_map(|clause| {
        let takes = |media: &str| match clause.media_type {
            "*/*" => true,
            range => range == media || range.strip_suffix('*').is_some_and(|prefix| media.starts_with(prefix)),
        };
        offers.iter().find(|(media, _)| takes(media)).map(|(_, offer)| *offer)
    })
}

/// Whether `Accept-Encoding` allows gzip.
pub(crate) fn takes_gzip(accept_encoding: Option<&str>) -> bool {
    accept_encoding
        .unwrap_or_default()
        .split(',')
        .map(Clause::parse)
        .any(|c| c.media_type == "gzip" && c.quality > 0)
}

/// Whether a command line without an `Accept` of its own is likely to be read by a person; as Kubernetes has it.
pub(crate) fn is_for_people(user_agent: Option<&str>) -> bool {
    user_agent.is_some_and(|agent| agent.starts_with("curl") || agent.starts_with("Wget"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chooses_among_offers_in_the_clients_order() {
        let offers = [("application/json", 'j'), ("application/x@y", 'p')];
        let cases = [
            (None, Some('j')),
            (Some(""), Some('j')),
            (Some("*/*"), Some('j')),
            (Some("application/*"), Some('j')),
            (Some("application/x@y"), Some('p')),
            (Some("text/html, application/x@y"), Some('p')),
            (Some("application/json;q=0.3, application/x@y"), Some('p')),
            (Some("application/json;q=0"), None),
            (Some("text/html"), None),
        ];
        for (accept, expected) in cases {
            assert_eq!(choose(accept, &offers), expected, "{accept:?}");
        }
    }

    /// What is accepted where the kind has a message, and where it has none.
    fn both(accept: Option<&str>) -> [Option<(Form, Encoding)>; 2] {
        [true, false].map(|message| {
            let accepted = negotiate(accept, || message).ok()?;
            Some((accepted.form, accepted.encoding))
        })
    }

    #[test]
    fn chooses_what_the_client_prefers_and_the_server_has() {
        use Encoding::{Json, Protobuf, Yaml};
        let json = Some((Form::Object, Json));
        let yaml = Some((Form::Object, Yaml));
        let table = Some((Form::Table, Json));
        let metadata = |encoding| Some((Form::Metadata, encoding));
        let protobuf = Some((Form::Object, Protobuf));
        let cases = [
            (None, json, json),
            (Some(""), json, json),
            (Some("*/*"), json, json),
            (Some("application/*;q=0.1"), json, json),
            (Some("*/*, application/yaml"), yaml, yaml),
            (Some("application/vnd.kubernetes.protobuf"), protobuf, None),
            (Some("application/vnd.kubernetes.protobuf, */*"), protobuf, json),
            (
                Some("application/vnd.kubernetes.protobuf,application/json"),
                protobuf,
                json,
            ),
            (
                Some("application/vnd.kubernetes.protobuf;q=0.5,application/json"),
                json,
                json,
            ),
            (Some("application/vnd.kubernetes.protobuf;stream=watch"), protobuf, None),
            (
                Some("application/json;as=Table;v=v1;g=meta.k8s.io,application/json"),
                table,
                table,
            ),
            (
                Some(
                    "application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1;g=meta.k8s.io",
                ),
                table,
                table,
            ),
            (
                Some("application/json;as=Table;g=meta.k8s.io;v=v2,application/json"),
                json,
                json,
            ),
            (Some("application/json;g=meta.k8s.io;v=v1"), None, None),
            (
                Some("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"),
                metadata(Json),
                metadata(Json),
            ),
            (
                Some(
                    "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json",
                ),
                metadata(Protobuf),
                metadata(Protobuf),
            ),
            (Some("application/json;q=0.5, application/yaml"), yaml, yaml),
            (Some("application/yaml;q=0, application/json;stream=watch"), json, json),
            (Some("application/yaml;stream=watch, application/json"), json, json),
            (Some("application/json;stream=other"), None, None),
            (Some("application/cbor"), None, None),
            (Some("application/cbor,application/json"), json, json),
            (Some("text/html"), None, None),
        ];
        for (accept, with, without) in cases {
            assert_eq!(both(accept), [with, without], "{accept:?}");
        }
    }

    #[test]
    fn a_status_has_no_form() {
        let plain = |accept| negotiate_plain(Some(accept)).ok().map(|accepted| accepted.encoding);
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
        assert_eq!(plain(table), None);
        assert_eq!(plain("application/vnd.kubernetes.protobuf"), Some(Encoding::Protobuf));
        assert_eq!(plain(&format!("{table}, application/yaml")), Some(Encoding::Yaml));
        assert!(negotiate_plain(Some("application/json;pretty=1")).is_ok_and(|accepted| accepted.pretty));
    }

    #[test]
    fn discovery_is_aggregated_for_those_who_ask() {
        let wanted = "g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
        let cases = [
            (
                format!("application/json;{wanted},application/json"),
                Some(Encoding::Json),
            ),
            (
                format!("application/vnd.kubernetes.protobuf;{wanted}"),
                Some(Encoding::Protobuf),
            ),
            ("application/json".to_owned(), None),
            (
                "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList".to_owned(),
                None,
            ),
        ];
        for (accept, expected) in cases {
            assert_eq!(aggregated_discovery(Some(&accept)), expected, "{accept}");
        }
    }

    #[test]
    fn some_forms_do_not_fit_some_verbs() {
        let types = || ("*core.Pod".to_owned(), "*core.PodList".to_owned());
        let metadata = |list| Accepted {
            form: Form::Metadata,
            list,
            ..Accepted::JSON
        };
        let yaml = Accepted {
            encoding: Encoding::Yaml,
            ..Accepted::JSON
        };
        let cases = [
            ("get", metadata(false), ""),
            (
                "get",
                metadata(true),
                "PartialObjectMetadataList, but the requested object is not a list (*core.Pod)",
            ),
            ("list", metadata(true), ""),
            (
                "list",
                metadata(false),
                "PartialObjectMetadata, but the requested object is a list (*core.PodList)",
            ),
            ("watch", metadata(true), ""),
            (
                "watch",
                yaml,
                "accepted: application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch",
            ),
            ("list", yaml, ""),
        ];
        for (verb, accepted, message) in cases {
            match check(accepted, verb, types) {
                Ok(()) => assert_eq!(message, "", "{verb} {accepted:?}"),
                Err(status) => {
                    assert!(
                        !message.is_empty() && status.message.ends_with(message),
                        "{}",
                        status.message
                    );
                    assert_eq!(status.code, 406);
                }
            }
        }
    }
}
