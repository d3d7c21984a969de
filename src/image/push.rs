//! `wherry image push`: from this machine to a registry; no node is asked. The cluster's own registry is spoken to over the
//! Kubernetes API.

use std::{io::Read, path::Path, time::SystemTime};

use anyhow::{Context, bail};
use cri::RegistryAuth;
use wasm::registry::{Push, push};

use super::{login, own};
use crate::cli::{PushImage, say};

/// The longest password.
const MAX_PASSWORD: u64 = 64 << 10;

/// Pushes the file and prints what it is called there.
pub(super) async fn run(options: PushImage) -> anyhow::Result<()> {
    if let Some(name) = own::name(&options.name) {
        return own::push(&options, name).await;
    }
    let (file, name) = (&options.file, &options.name);
    let binary = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let hosts = options.data.path()?.join("certs.d");
    let pushed = push(Push {
        name: name.clone(),
        binary: binary.into(),
        file: called(file),
        created: created(file)?,
        credentials: credentials(&options)?,
        // The data directory may be somebody else's.
        hosts: std::fs::read_dir(&hosts).is_ok().then_some(hosts),
        plain_http: options.plain_http,
    });
    match pushed.await {
        Ok(pushed) => say(&format!(
            "pushed {} as {} ({})",
            file.display(),
            pushed.name,
            pushed.digest
        )),
        Err(error) => bail!(
            "cannot push {} as \"{name}\": {:#}",
            file.display(),
            anyhow::Error::from(error)
        ),
    }
    Ok(())
}

fn called(file: &Path) -> String {
    let name = file.file_name().map(|name| name.to_string_lossy().into_owned());
    name.unwrap_or_else(|| "program.wasm".to_owned())
}

/// When the file was made: the same file pushed twice is the same artifact.
fn created(file: &Path) -> anyhow::Result<String> {
    let modified = std::fs::metadata(file)?.modified()?;
    let since = modified.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let second = jiff::Timestamp::from_second(i64::try_from(since.as_secs())?)?;
    Ok(second.to_string())
}

fn credentials(options: &PushImage) -> anyhow::Result<Option<RegistryAuth>> {
    let Some(username) = &options.username else {
        return Ok(login::known(&options.name));
    };
    let mut password = String::new();
    let stdin = std::io::stdin().lock();
    stdin
        .take(MAX_PASSWORD)
        .read_to_string(&mut password)
        .context("cannot read the password from stdin")?;
    Ok(Some(RegistryAuth {
        username: username.clone(),
        password: password.trim_end_matches(['\r', '\n']).to_owned(),
        ..RegistryAuth::default()
    }))
}
