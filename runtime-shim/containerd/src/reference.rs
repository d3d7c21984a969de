//! Names of images, as containerd keeps them: with their registry, and with a tag. Pure.
//!
//! The short forms are Docker's: `nginx` is `docker.io/library/nginx:latest`.

/// Where a name without a registry is.
const DEFAULT_REGISTRY: &str = "docker.io";

/// The full name of a reference.
pub(crate) fn full(reference: &str) -> Result<String, &'static str> {
    if reference.is_empty() || reference.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err("invalid reference format");
    }
    let (name, digest) = match reference.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (reference, None),
    };
    let (registry, path) = match name.split_once('/') {
        Some((first, rest)) if is_registry(first) => (first, rest),
        _ => (DEFAULT_REGISTRY, name),
    };
    let (path, tag) = match path.rsplit_once(':') {
        Some((path, tag)) => (path, Some(tag)),
        None => (path, None),
    };
    if path.chars().any(char::is_uppercase) {
        return Err("repository name must be lowercase");
    }
    if path.is_empty() || path.split('/').any(str::is_empty) || tag.is_some_and(str::is_empty) {
        return Err("invalid reference format");
    }
    let library = if registry == DEFAULT_REGISTRY && !path.contains('/') {
        "library/"
    } else {
        ""
    };
    Ok(match (tag, digest) {
        (_, Some(digest)) => format!("{registry}/{library}{path}@{digest}"),
        (tag, None) => format!("{registry}/{library}{path}:{}", tag.unwrap_or("latest")),
    })
}

/// What stands before the first slash is a registry if it looks like a host.
fn is_registry(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':'])
}

#[cfg(test)]
mod tests {
    use super::full;

    #[test]
    fn short_names_are_dockers() {
        for (reference, name) in [
            ("nginx", "docker.io/library/nginx:latest"),
            ("nginx:1", "docker.io/library/nginx:1"),
            ("team/nginx:1", "docker.io/team/nginx:1"),
            ("localhost/pause:3.6", "localhost/pause:3.6"),
            ("127.0.0.1:5000/a/b", "127.0.0.1:5000/a/b:latest"),
            ("example.com/a:1@sha256:0", "example.com/a@sha256:0"),
        ] {
            assert_eq!(full(reference).as_deref(), Ok(name), "{reference}");
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for reference in ["", "a b", "Nginx", "nginx:", "example.com/", "a//b"] {
            assert!(full(reference).is_err(), "{reference}");
        }
    }
}
