//! A pod's `/etc/hosts`: made by the kubelet, one file for all its Linux containers. The content is pure.

use std::{fmt::Write as _, fs, io, net::IpAddr, os::unix::fs::PermissionsExt, path::Path};

use crate::pod::Pod;

/// Where the node's own lies.
pub(crate) const OF_NODE: &str = "/etc/hosts";
/// What every host knows of itself.
const ITSELF: &str = "127.0.0.1\tlocalhost\n\
                      ::1\tlocalhost ip6-localhost ip6-loopback\n\
                      fe00::0\tip6-localnet\n\
                      fe00::0\tip6-mcastprefix\n\
                      fe00::1\tip6-allnodes\n\
                      fe00::2\tip6-allrouters\n";

/// The file's content. A pod in the node's network sees the node's file (`of_node`) and its own aliases.
pub(crate) fn content(pod: &Pod, ips: &[IpAddr], domain: &str, of_node: &str) -> String {
    let mut text = if pod.spec.host_network {
        format!("# Kubernetes-managed hosts file (host network).\n{of_node}")
    } else {
        format!("# Kubernetes-managed hosts file.\n{ITSELF}")
    };
    if !pod.spec.host_network {
        let host = pod.host_name();
        let names = pod
            .domain_name(domain)
            .map_or(host.clone(), |full| format!("{full}\t{host}"));
        for ip in ips {
            let _ = writeln!(text, "{ip}\t{names}"); // writing to a String cannot fail
        }
    }
    if !pod.spec.host_aliases.is_empty() {
        text.push_str("\n# Entries added by HostAliases.\n");
    }
    for alias in &pod.spec.host_aliases {
        let _ = writeln!(text, "{}\t{}", alias.ip, alias.hostnames.join("\t")); // as above
    }
    text
}

/// Writes the file, in place, since running containers see it as it is. Blocking.
///
/// # Errors
/// Whatever the file system says.
pub(crate) fn write(path: &Path, content: &str) -> io::Result<()> {
    if fs::read_to_string(path).is_ok_and(|old| old == content) {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(path, content)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn text(spec: Value) -> String {
        let metadata = json!({"name": "p", "namespace": "ns", "uid": "u"});
        let pod: Pod = serde_json::from_value(json!({"metadata": metadata, "spec": spec})).expect("pod");
        content(
            &pod,
            &["10.0.0.7".parse().expect("ip")],
            "cluster.local",
            "127.0.0.1\tnode\n",
        )
    }

    #[test]
    fn names_the_pod_and_its_aliases() {
        let made = text(json!({"hostAliases": [{"ip": "1.2.3.4", "hostnames": ["a", "b"]}]}));
        assert!(
            made.starts_with("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n"),
            "{made}"
        );
        assert!(
            made.ends_with("\n10.0.0.7\tp\n\n# Entries added by HostAliases.\n1.2.3.4\ta\tb\n"),
            "{made}"
        );
        let made = text(json!({"hostname": "h", "subdomain": "s"}));
        assert!(made.ends_with("10.0.0.7\th.s.ns.svc.cluster.local\th\n"), "{made}");
    }

    #[test]
    fn a_pod_in_the_nodes_network_sees_the_nodes() {
        let made = text(json!({"hostNetwork": true}));
        assert_eq!(
            made,
            "# Kubernetes-managed hosts file (host network).\n127.0.0.1\tnode\n"
        );
    }

    #[test]
    fn the_file_keeps_its_identity() {
        use std::os::unix::fs::MetadataExt;
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("u/etc-hosts");
        write(&path, "a\n").expect("writes");
        let inode = fs::metadata(&path).expect("file").ino();
        write(&path, "bb\n").expect("writes");
        assert_eq!(fs::metadata(&path).expect("file").ino(), inode);
        assert_eq!(fs::read_to_string(&path).expect("file"), "bb\n");
    }
}
