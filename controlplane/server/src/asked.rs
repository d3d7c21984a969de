//! Programs that the API server asks, as kubeconfig files describe them: the cluster and the user of the current context.

use std::path::{Path, PathBuf};

use apiserver::webhook::endpoint::{self, Access, Credentials, Endpoint};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kube::config::{AuthInfo, Cluster, Kubeconfig};
use secrecy::ExposeSecret;

/// Why a file leads to no program.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{} is no kubeconfig file", path.display())]
    Malformed {
        path: PathBuf,
        #[source]
        source: Box<kube::config::KubeconfigError>,
    },
    #[error("{} has no {what}", path.display())]
    Lacks { path: PathBuf, what: &'static str },
    #[error("{} uses {what}, which is not supported here", path.display())]
    Unsupported { path: PathBuf, what: &'static str },
    #[error("{} has data that is not base64", path.display())]
    Encoding { path: PathBuf },
    #[error("what {} says cannot be used", path.display())]
    Unusable {
        path: PathBuf,
        #[source]
        source: endpoint::Error,
    },
}

/// Reads a kubeconfig file; files it names are looked for beside it.
pub(crate) fn open(path: &Path) -> Result<Endpoint, Error> {
    let text = read(path)?;
    let text = String::from_utf8_lossy(&text);
    let config = Kubeconfig::from_yaml(&text).map_err(|source| Error::Malformed {
        path: path.to_owned(),
        source: Box::new(source),
    })?;
    let access = access(path, &config)?;
    Endpoint::new(&access).map_err(|source| Error::Unusable {
        path: path.to_owned(),
        source,
    })
}

fn access(path: &Path, config: &Kubeconfig) -> Result<Access, Error> {
    let lacks = |what| Error::Lacks {
        path: path.to_owned(),
        what,
    };
    let current = config.current_context.as_deref().unwrap_or_default();
    let context = config.contexts.iter().find(|context| context.name == current);
    let context = context.and_then(|named| named.context.as_ref());
    let context = context.ok_or_else(|| lacks("current context"))?;
    let cluster = config.clusters.iter().find(|cluster| cluster.name == context.cluster);
    let cluster = cluster.and_then(|named| named.cluster.as_ref());
    let cluster = cluster.ok_or_else(|| lacks("cluster for its context"))?;
    let user = match context.user.as_deref().unwrap_or_default() {
        "" => AuthInfo::default(),
        name => {
            let user = config.auth_infos.iter().find(|user| user.name == name);
            let user = user.and_then(|named| named.auth_info.clone());
            user.ok_or_else(|| lacks("user for its context"))?
        }
    };
    for (is_used, what) in [
        (user.exec.is_some(), "a credential plugin"),
        (user.auth_provider.is_some(), "an auth provider"),
        (cluster.proxy_url.is_some(), "a proxy"),
    ] {
        if is_used {
            return Err(Error::Unsupported {
                path: path.to_owned(),
                what,
            });
        }
    }
    Ok(Access {
        url: cluster.server.clone().ok_or_else(|| lacks("server"))?,
        authorities: authorities(path, cluster)?,
        insecure: cluster.insecure_skip_tls_verify.unwrap_or(false),
        server_name: cluster.tls_server_name.clone(),
        identity: identity(path, &user)?,
        credentials: credentials(path, &user)?,
    })
}

fn authorities(path: &Path, cluster: &Cluster) -> Result<Vec<u8>, Error> {
    let (data, file) = (&cluster.certificate_authority_data, &cluster.certificate_authority);
    Ok(content(path, data.as_deref(), file.as_deref())?.unwrap_or_default())
}

/// A certificate and its key, in PEM.
type Pair = (Vec<u8>, Vec<u8>);

fn identity(path: &Path, user: &AuthInfo) -> Result<Option<Pair>, Error> {
    let (data, file) = (&user.client_certificate_data, &user.client_certificate);
    let certificate = content(path, data.as_deref(), file.as_deref())?;
    let data = user.client_key_data.as_ref().map(ExposeSecret::expose_secret);
    let key = content(path, data, user.client_key.as_deref())?;
    match (certificate, key) {
        (None, None) => Ok(None),
        (Some(certificate), Some(key)) => Ok(Some((certificate, key))),
        (Some(_), None) => Err(Error::Lacks {
            path: path.to_owned(),
            what: "key for its client certificate",
        }),
        (None, Some(_)) => Err(Error::Lacks {
            path: path.to_owned(),
            what: "client certificate for its key",
        }),
    }
}

fn credentials(path: &Path, user: &AuthInfo) -> Result<Credentials, Error> {
    if let Some(token) = &user.token {
        return Ok(Credentials::Token(token.expose_secret().to_owned()));
    }
    if let Some(file) = &user.token_file {
        let token = read(&beside(path, file))?;
        return Ok(Credentials::Token(String::from_utf8_lossy(&token).trim().to_owned()));
    }
    Ok(match &user.username {
        Some(username) => Credentials::Password {
            username: username.clone(),
            password: user
                .password
                .as_ref()
                .map(|password| password.expose_secret().to_owned())
                .unwrap_or_default(),
        },
        None => Credentials::None,
    })
}

/// What stands in the file itself, or in one that it names.
fn content(path: &Path, data: Option<&str>, file: Option<&str>) -> Result<Option<Vec<u8>>, Error> {
    match (data, file) {
        (Some(data), _) => {
            let decoded = STANDARD
                .decode(data)
                .map_err(|_| Error::Encoding { path: path.to_owned() })?;
            Ok(Some(decoded))
        }
        (None, Some(file)) => read(&beside(path, file)).map(Some),
        (None, None) => Ok(None),
    }
}

fn beside(path: &Path, file: &str) -> PathBuf {
    path.parent()
        .map_or_else(|| PathBuf::from(file), |parent| parent.join(file))
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|source| Error::Read {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(user: &str) -> Result<Access, String> {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("ca.pem"), "authority").expect("written");
        std::fs::write(directory.path().join("token"), "from a file\n").expect("written");
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{{name: c, context: {{cluster: k, user: u}}}}]\n\
             clusters: [{{name: k, cluster: {{server: 'https://a.example/ask', certificate-authority: ca.pem}}}}]\n\
             users: [{{name: u, user: {user}}}]\n"
        );
        let config = Kubeconfig::from_yaml(&text).map_err(|error| error.to_string())?;
        access(&directory.path().join("kubeconfig"), &config).map_err(|error| error.to_string())
    }

    #[test]
    fn a_file_says_where_and_as_whom() {
        let asked = of("{token: secret}").unwrap();
        assert_eq!(asked.url, "https://a.example/ask");
        assert_eq!(asked.authorities, b"authority");
        assert!(matches!(asked.credentials, Credentials::Token(token) if token == "secret"));
        let asked = of("{tokenFile: token}").unwrap();
        assert!(matches!(asked.credentials, Credentials::Token(token) if token == "from a file"));
        let asked = of("{username: a, password: b}").unwrap();
        assert!(matches!(asked.credentials, Credentials::Password { username, .. } if username == "a"));
        let asked = of("{client-certificate-data: YQ==, client-key-data: Yg==}").unwrap();
        assert_eq!(asked.identity, Some((b"a".to_vec(), b"b".to_vec())));
        for (user, words) in [
            (
                "{client-certificate-data: YQ==}",
                "has no key for its client certificate",
            ),
            ("{client-certificate-data: '?', client-key-data: Yg==}", "not base64"),
            (
                "{exec: {command: x}}",
                "uses a credential plugin, which is not supported here",
            ),
            ("{tokenFile: away}", "cannot read"),
        ] {
            let Err(why) = of(user) else {
                panic!("{user} is taken");
            };
            assert!(why.contains(words), "{why}");
        }
    }
}
