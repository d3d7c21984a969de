//! Where the images of a registry are fetched from: `certs.d/<registry>/hosts.toml`, as containerd reads it.
//!
//! A registry has an endpoint of its own and, before it, the mirrors that its file names, in the order of the file. Without
//! a file a registry is spoken to by TLS, and one on a loopback address in the clear. Files are read anew for each pull.
//!
//! Deliberately absent: Docker's layout of certificate files without a `hosts.toml`.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use toml::{Table, Value};

/// Docker Hub, and where its API is.
const DOCKER_HUB: (&str, &str) = ("docker.io", "registry-1.docker.io");
/// The folder for registries that have none of their own.
const FALLBACK: &str = "_default";
/// The largest file that is read.
const MAX_FILE: u64 = 1 << 20;

/// One place to fetch from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(super) tls: bool,
    /// `registry.example:5000`
    pub(super) authority: String,
    /// What stands before `/<repository>/manifests/…`: `/v2`.
    pub(super) path: String,
    /// It stands in for the registry that the image's name says.
    pub(super) mirror: bool,
    pub(super) can: Capabilities,
    pub(super) trust: Trust,
    /// Sent with every request.
    pub(super) headers: Vec<(String, String)>,
    pub(super) dial_timeout: Option<Duration>,
}

/// What an endpoint may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Capabilities {
    /// Content by its digest.
    pub(super) pull: bool,
    /// What a tag means.
    pub(super) resolve: bool,
    pub(super) push: bool,
}

/// Whom a connection trusts, and how it shows itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Trust {
    /// PEM files of authorities beside the machine's.
    pub(super) ca: Vec<PathBuf>,
    /// PEM files of a certificate and its key; the key may be in the certificate's file.
    pub(super) client: Option<(PathBuf, PathBuf)>,
    pub(super) skip_verify: bool,
}

/// A registry's configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HostsError {
    #[error("{path} cannot be read", path = path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{path} cannot be used: {problem}", path = path.display())]
    Content { path: PathBuf, problem: String },
}

/// The endpoints for a registry, mirrors first. Reads files.
pub(super) fn load(directory: Option<&Path>, domain: &str) -> Result<Vec<Endpoint>, HostsError> {
    let Some(directory) = directory else {
        return Ok(vec![registry(domain)]);
    };
    for folder in folders(domain) {
        let path = directory.join(folder).join("hosts.toml");
        let text = match read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(source) => return Err(HostsError::Read { path, source }),
        };
        let base = path.parent().unwrap_or(directory);
        return parse(&text, domain, base).map_err(|problem| HostsError::Content { path, problem });
    }
    Ok(vec![registry(domain)])
}

fn read(path: &Path) -> io::Result<String> {
    let metadata = fs::metadata(path)?;
    if metadata.len() > MAX_FILE {
        return Err(io::Error::other("it is too large"));
    }
    fs::read_to_string(path)
}

/// The folders that may hold a registry's file, the most specific first. A file system without colons in names has
/// `host_port_`.
fn folders(domain: &str) -> Vec<String> {
    let plain = match domain.rsplit_once(':') {
        Some((host, port)) => vec![format!("{host}_{port}_"), domain.to_owned()],
        None => vec![domain.to_owned()],
    };
    plain.into_iter().chain([FALLBACK.to_owned()]).collect()
}

/// A registry about which nothing is configured.
fn registry(domain: &str) -> Endpoint {
    let authority = if domain == DOCKER_HUB.0 { DOCKER_HUB.1 } else { domain };
    Endpoint {
        tls: !is_loopback(authority),
        authority: authority.to_owned(),
        path: "/v2".to_owned(),
        mirror: false,
        can: Capabilities {
            pull: true,
            resolve: true,
            push: true,
        },
        trust: Trust::default(),
        headers: Vec::new(),
        dial_timeout: None,
    }
}

/// Whether a registry is on this machine, so that nobody listens in.
pub(super) fn is_loopback(authority: &str) -> bool {
    let host = authority
        .rsplit_once(':')
        .filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()))
        .map_or(authority, |(host, _)| host);
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Reads the text of a file; relative paths in it are below `base`. Pure.
pub(crate) fn parse(text: &str, domain: &str, base: &Path) -> Result<Vec<Endpoint>, String> {
    let file: Table = toml::from_str(text).map_err(|error| in_one_line(text, &error))?;
    let mut endpoints = Vec::new();
    if let Some(hosts) = file.get("host") {
        let Value::Table(hosts) = hosts else {
            return Err("\"host\" is no table".to_owned());
        };
        for (url, settings) in hosts {
            let Value::Table(settings) = settings else {
                return Err(format!("host.\"{url}\" is no table"));
            };
            let endpoint = endpoint(url, settings, base).map_err(|problem| format!("host.\"{url}\": {problem}"))?;
            endpoints.push(Endpoint {
                mirror: true,
                ..endpoint
            });
        }
    }
    let own = match file.get("server") {
        Some(server) => Some(string(server)?),
        None => None,
    };
    let server = match own {
        Some(server) => endpoint(&server, &file, base).map_err(|problem| format!("server: {problem}"))?,
        None => settings(registry(domain), &file, base)?,
    };
    endpoints.push(server);
    Ok(endpoints)
}

fn in_one_line(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start));
    let line = before.unwrap_or_default().matches('\n').count() + 1;
    format!("line {line}: {}", error.message())
}

fn endpoint(url: &str, table: &Table, base: &Path) -> Result<Endpoint, String> {
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme, rest)) => (Some(scheme), rest),
        None => (None, url),
    };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let tls = match scheme {
        Some("https") => true,
        Some("http") => false,
        Some(other) => return Err(format!("scheme \"{other}\" is neither http nor https")),
        None => !is_loopback(authority),
    };
    if authority.parse::<http::uri::Authority>().is_err() || authority.contains('@') {
        return Err(format!("\"{url}\" names no host"));
    }
    let path = path.trim_matches('/');
    let overridden = flag(table, "override_path")?.unwrap_or(false);
    let path = match (path, overridden) {
        ("", false) => "/v2".to_owned(),
        ("", true) => String::new(),
        (path, false) if !path.ends_with("/v2") && path != "v2" => format!("/{path}/v2"),
        (path, _) => format!("/{path}"),
    };
    let authority = authority.to_owned();
    settings(
        Endpoint {
            tls,
            authority: authority.clone(),
            path,
            ..registry(&authority)
        },
        table,
        base,
    )
}

/// What a table says beside the address.
fn settings(endpoint: Endpoint, table: &Table, base: &Path) -> Result<Endpoint, String> {
    let can = match table.get("capabilities") {
        None => endpoint.can,
        Some(named) => {
            let named = strings(named)?;
            let has = |word: &str| named.iter().any(|name| name == word);
            if let Some(unknown) = named
                .iter()
                .find(|n| !["pull", "resolve", "push", "referrers"].contains(&n.as_str()))
            {
                return Err(format!("unknown capability \"{unknown}\""));
            }
            Capabilities {
                pull: has("pull"),
                resolve: has("resolve"),
                push: has("push"),
            }
        }
    };
    let ca = table.get("ca").map(strings).transpose()?.unwrap_or_default();
    Ok(Endpoint {
        can,
        trust: Trust {
            ca: ca.iter().map(|path| base.join(path)).collect(),
            client: client(table, base)?,
            skip_verify: flag(table, "skip_verify")?.unwrap_or(false),
        },
        headers: headers(table)?,
        dial_timeout: table.get("dial_timeout").map(duration).transpose()?,
        ..endpoint
    })
}

/// `"file.pem"`, or `[["cert.pem", "key.pem"]]`; the first pair counts.
fn client(table: &Table, base: &Path) -> Result<Option<(PathBuf, PathBuf)>, String> {
    let first = match table.get("client") {
        None => return Ok(None),
        Some(Value::Array(items)) => items.first(),
        Some(single) => Some(single),
    };
    match first.map(strings).transpose()?.as_deref() {
        None => Ok(None),
        Some([both]) => Ok(Some((base.join(both), base.join(both)))),
        Some([certificate, key]) => Ok(Some((base.join(certificate), base.join(key)))),
        Some(_) => Err("\"client\" wants a certificate and its key".to_owned()),
    }
}

fn headers(table: &Table) -> Result<Vec<(String, String)>, String> {
    let Some(headers) = table.get("header") else {
        return Ok(Vec::new());
    };
    let Value::Table(headers) = headers else {
        return Err("\"header\" is no table".to_owned());
    };
    let mut all = Vec::new();
    for (name, values) in headers {
        if name.parse::<http::HeaderName>().is_err() {
            return Err(format!("\"{name}\" is not the name of a header"));
        }
        for value in strings(values)? {
            if value.parse::<http::HeaderValue>().is_err() {
                return Err(format!("the value of header \"{name}\" cannot be sent"));
            }
            all.push((name.clone(), value));
        }
    }
    Ok(all)
}

fn string(value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        other => Err(format!("expected a string, found {other:?}")),
    }
}

/// A string, or a list of them.
fn strings(value: &Value) -> Result<Vec<String>, String> {
    match value {
        Value::Array(items) => items.iter().map(string).collect(),
        single => Ok(vec![string(single)?]),
    }
}

fn flag(table: &Table, key: &str) -> Result<Option<bool>, String> {
    match table.get(key) {
        None => Ok(None),
        Some(Value::Boolean(flag)) => Ok(Some(*flag)),
        Some(_) => Err(format!("\"{key}\" is neither true nor false")),
    }
}

/// As Go writes it: `500ms`, `3s`, `1m30s`.
fn duration(value: &Value) -> Result<Duration, String> {
    let text = string(value)?;
    let wrong = || format!("\"{text}\" is not a duration such as 3s");
    let (mut rest, mut total) = (text.as_str(), Duration::ZERO);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let milliseconds = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err(wrong()),
        };
        total = total.saturating_add(Duration::from_millis(number.saturating_mul(milliseconds)));
        rest = tail;
    }
    match total {
        Duration::ZERO => Err(wrong()),
        total => Ok(total),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Vec<Endpoint> {
        parse(text, "docker.io", Path::new("/certs.d/docker.io")).unwrap()
    }

    fn url(endpoint: &Endpoint) -> String {
        let scheme = if endpoint.tls { "https" } else { "http" };
        format!("{scheme}://{}{}", endpoint.authority, endpoint.path)
    }

    #[test]
    fn without_a_file_only_loopback_is_in_the_clear() {
        for (domain, expected) in [
            ("docker.io", "https://registry-1.docker.io/v2"),
            ("registry.example", "https://registry.example/v2"),
            ("registry.example:5000", "https://registry.example:5000/v2"),
            ("localhost:5000", "http://localhost:5000/v2"),
            ("127.0.0.9:5000", "http://127.0.0.9:5000/v2"),
            ("[::1]:5000", "http://[::1]:5000/v2"),
            ("localhost.example", "https://localhost.example/v2"),
            ("10.0.0.1:5000", "https://10.0.0.1:5000/v2"),
        ] {
            let directory = tempfile::tempdir().unwrap();
            let endpoints = load(Some(directory.path()), domain).unwrap();
            assert_eq!(endpoints.iter().map(url).collect::<Vec<_>>(), [expected]);
        }
    }

    #[test]
    fn mirrors_come_first_in_the_order_of_the_file() {
        let endpoints = parsed(
            "server = \"https://hub.example\"\nca = \"own.pem\"\n\
             [host.\"https://z.example/proxy\"]\ncapabilities = [\"pull\", \"resolve\"]\nskip_verify = true\n\
             ca = [\"a.pem\", \"/b.pem\"]\nclient = [[\"c.pem\", \"k.pem\"]]\ndial_timeout = \"1m1s500ms\"\n\
             [host.\"https://z.example/proxy\".header]\nx-a = \"1\"\n\
             [host.\"http://a.example/v2/cache\"]\noverride_path = true\n[host.\"b.example\"]\n",
        );
        let urls: Vec<_> = endpoints.iter().map(url).collect();
        assert_eq!(
            urls,
            [
                "https://z.example/proxy/v2",
                "http://a.example/v2/cache",
                "https://b.example/v2",
                "https://hub.example/v2"
            ]
        );
        let z = &endpoints[0];
        assert_eq!(z.trust.ca, [Path::new("/certs.d/docker.io/a.pem"), Path::new("/b.pem")]);
        assert!(z.trust.skip_verify && z.mirror && !z.can.push && z.can.pull);
        assert_eq!(z.headers, [("x-a".to_owned(), "1".to_owned())]);
        assert_eq!(z.dial_timeout, Some(Duration::from_millis(61_500)));
        assert_eq!(
            z.trust.client,
            Some(("/certs.d/docker.io/c.pem".into(), "/certs.d/docker.io/k.pem".into()))
        );
        assert_eq!(endpoints[3].trust.ca, [Path::new("/certs.d/docker.io/own.pem")]);
        assert!(!endpoints[3].mirror);
    }

    #[test]
    fn a_file_that_says_nothing_of_a_server_leaves_the_registry_itself() {
        let endpoints = parsed("[host.\"https://m.example\"]\n");
        assert_eq!(url(&endpoints[1]), "https://registry-1.docker.io/v2");
    }

    #[test]
    fn mistakes_are_named() {
        for (text, says) in [
            ("server = 1", "expected a string"),
            ("server = \"ftp://x\"", "neither http nor https"),
            ("server = \"https://user@x\"", "names no host"),
            ("[host.\"https://\"]", "names no host"),
            ("capabilities = [\"fly\"]", "unknown capability \"fly\""),
            ("skip_verify = \"yes\"", "neither true nor false"),
            ("dial_timeout = \"soon\"", "not a duration"),
            ("[header]\n\"a b\" = \"c\"", "not the name of a header"),
            ("host = 1", "\"host\" is no table"),
        ] {
            let error = parse(text, "r.example", Path::new("/")).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn the_folder_may_be_written_without_a_colon() {
        assert_eq!(
            folders("r.example:5000"),
            ["r.example_5000_", "r.example:5000", "_default"]
        );
        let directory = tempfile::tempdir().unwrap();
        let folder = directory.path().join("_default");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("hosts.toml"), "server = \"http://proxy.example\"").unwrap();
        assert_eq!(
            url(&load(Some(directory.path()), "any.example").unwrap()[0]),
            "http://proxy.example/v2"
        );
        fs::write(folder.join("hosts.toml"), "server =").unwrap();
        let error = load(Some(directory.path()), "any.example").unwrap_err().to_string();
        assert!(error.contains("hosts.toml cannot be used: line 1"), "{error}");
    }
}
