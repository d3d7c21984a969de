//! Container images for tests: one layer around Debian's static busybox, as a tar of an OCI image layout.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Where Debian's `busybox-static` has it.
const BUSYBOX: &str = "/usr/bin/busybox";
/// Its applets that tests call by name.
const APPLETS: [&str; 27] = [
    "sh", "cat", "echo", "ls", "sleep", "printf", "httpd", "nc", "id", "env", "hostname", "nslookup", "ip", "kill",
    "touch", "sed", "tar", "stty", "dd", "wc", "grep", "mount", "mkdir", "ln", "stat", "yes", "ps",
];

/// An image to be made.
#[derive(Clone, Debug, Default)]
pub struct Image {
    /// The entrypoint; empty: a shell.
    pub command: Vec<String>,
    /// Further files, with their content.
    pub files: Vec<(String, String)>,
}

impl Image {
    /// What holds a pod's namespaces.
    pub fn pause() -> Self {
        Self {
            command: ["/bin/busybox", "sleep", "1000000000"].map(str::to_owned).into(),
            files: Vec::new(),
        }
    }

    /// A web server on port 8080 whose front page is `text`.
    pub fn web(text: &str) -> Self {
        Self {
            command: ["/bin/httpd", "-f", "-vv", "-p", "8080", "-h", "/www"]
                .map(str::to_owned)
                .into(),
            files: vec![("www/index.html".to_owned(), text.to_owned())],
        }
    }

    /// Writes the layout into a directory and answers its path.
    pub fn write(&self, directory: &Path, name: &str) -> PathBuf {
        let layer = self.layer();
        let layer_digest = digest(&layer);
        let command = match self.command.is_empty() {
            true => vec!["/bin/sh".to_owned()],
            false => self.command.clone(),
        };
        let config = bytes(&json!({
            "architecture": "amd64", "os": "linux",
            "config": {"Entrypoint": command, "Env": ["PATH=/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [layer_digest]},
        }));
        let manifest = bytes(&json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
            "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer)],
        }));
        let index = bytes(&json!({
            "schemaVersion": 2,
            "manifests": [descriptor("application/vnd.oci.image.manifest.v1+json", &manifest)],
        }));
        let path = directory.join(format!("{name}.tar"));
        let mut tar = tar::Builder::new(std::fs::File::create(&path).expect("a file"));
        add(&mut tar, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#, 0o644);
        add(&mut tar, "index.json", &index, 0o644);
        for blob in [&manifest, &config, &layer] {
            let name = digest(blob).replacen(':', "/", 1);
            add(&mut tar, &format!("blobs/{name}"), blob, 0o644);
        }
        tar.finish().expect("the tar is written");
        path
    }

    fn layer(&self) -> Vec<u8> {
        let busybox = std::fs::read(BUSYBOX).expect("busybox-static is installed");
        let mut tar = tar::Builder::new(Vec::new());
        add(&mut tar, "bin/busybox", &busybox, 0o755);
        for applet in APPLETS {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            header.set_mode(0o777);
            tar.append_link(&mut header, format!("bin/{applet}"), "busybox")
                .expect("a link");
        }
        for directory in ["tmp/", "etc/"] {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Directory);
            header.set_size(0);
            header.set_mode(0o777);
            tar.append_data(&mut header, directory, std::io::empty())
                .expect("a directory");
        }
        for (name, text) in &self.files {
            add(&mut tar, name, text.as_bytes(), 0o644);
        }
        tar.into_inner().expect("a tar in memory")
    }
}

fn add<W: std::io::Write>(tar: &mut tar::Builder<W>, name: &str, content: &[u8], mode: u32) {
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(mode);
    tar.append_data(&mut header, name, content).expect("a member");
}

fn bytes(value: &Value) -> Vec<u8> {
    serde_json::to_vec(value).expect("JSON")
}

fn descriptor(media_type: &str, content: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": digest(content), "size": content.len()})
}

fn digest(content: &[u8]) -> String {
    let hex: String = Sha256::digest(content)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("sha256:{hex}")
}
