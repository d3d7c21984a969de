//! Where a cluster is and how to reach it.

use std::fmt;
use std::time::Duration;

use crate::OpenError;

/// How an etcd cluster is reached. What is given is checked by [`crate::Etcd::connect`].
#[derive(Clone, Debug)]
pub struct Options {
    /// `https://host:port` or `http://host:port`, of one or more members; all with the same scheme.
    pub endpoints: Vec<String>,
    /// What all keys begin with, so that others may keep theirs beside them. Not empty.
    pub root: String,
    /// For `https` endpoints; `None` without client certificates, where etcd's is signed by nobody we would know.
    pub tls: Option<Tls>,
    /// How long making a connection may take.
    pub connect_timeout: Duration,
    /// How long one endpoint may take to answer a read, before the next is asked.
    pub answer_timeout: Duration,
    /// How long a call may take in all.
    pub patience: Duration,
}

/// Certificates and key, PEM. Does not print the key.
#[derive(Clone)]
pub struct Tls {
    /// Who signs the certificates of etcd's members.
    pub authority: String,
    /// Our own certificate and its key, where etcd asks for one.
    pub identity: Option<(String, String)>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

impl Options {
    /// Such endpoints with the usual root and times.
    pub fn new(endpoints: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Options {
            endpoints: endpoints.into_iter().map(Into::into).collect(),
            root: "/wherry/".to_owned(),
            tls: None,
            connect_timeout: Duration::from_secs(2),
            answer_timeout: Duration::from_secs(3),
            // etcd itself gives up after 7 seconds.
            patience: Duration::from_secs(8),
        }
    }

    /// Refuses what could not work.
    pub(crate) fn check(&self) -> Result<(), OpenError> {
        let secure = |endpoint: &String| endpoint.starts_with("https://");
        let named = |endpoint: &String| secure(endpoint) || endpoint.starts_with("http://");
        if self.endpoints.is_empty() || self.root.is_empty() {
            return Err(OpenError::NoEndpoint);
        }
        if let Some(wrong) = self.endpoints.iter().find(|endpoint| !named(endpoint)) {
            return Err(OpenError::Endpoint(wrong.clone()));
        }
        match self.endpoints.iter().all(secure) {
            true if self.tls.is_none() => Err(OpenError::NoAuthority),
            false if self.tls.is_some() || self.endpoints.iter().any(secure) => Err(OpenError::Plain),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_cannot_work() {
        let tls = Tls {
            authority: "PEM".to_owned(),
            identity: None,
        };
        let check = |endpoints: &[&str], tls: Option<&Tls>| {
            let options = Options {
                tls: tls.cloned(),
                ..Options::new(endpoints.iter().copied())
            };
            options.check().map_err(|error| error.to_string())
        };
        assert_eq!(check(&["http://127.0.0.1:2379"], None), Ok(()));
        assert_eq!(check(&["https://a:2379", "https://b:2379"], Some(&tls)), Ok(()));
        for (endpoints, tls, says) in [
            (&[][..], None, "no endpoint"),
            (&["127.0.0.1:2379"], None, "\"127.0.0.1:2379\""),
            (&["https://a:2379"], None, "--etcd-cafile"),
            (&["http://a:2379"], Some(&tls), "https"),
            (&["https://a:2379", "http://b:2379"], Some(&tls), "https"),
        ] {
            let error = check(endpoints, tls).unwrap_err();
            assert!(error.contains(says) && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn keys_are_not_printed() {
        let tls = Tls {
            authority: String::new(),
            identity: Some(("cert".into(), "hunter2".into())),
        };
        assert!(!format!("{tls:?}").contains("hunter2"));
    }
}
