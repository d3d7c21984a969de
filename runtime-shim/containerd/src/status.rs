//! The conditions and features of the runtime.

use std::path::Path;

use cri::{CgroupDriver, Condition, Error, Features};
use proto::{Attempt, v1};

use crate::link::{Health, Link, PATIENCE};

fn attempt(doing: &'static str) -> Attempt<'static> {
    Attempt {
        doing,
        what: "runtime",
        id: "containerd",
        patience: PATIENCE,
    }
}

/// The reference of the image that holds pods' namespaces, where containerd's configuration names one. Newer versions pin
/// it instead.
pub(crate) async fn sandbox_image(link: &Link) -> Result<Option<String>, Error> {
    let request = v1::StatusRequest { verbose: true };
    let asked = link.read(attempt("asking for the sandbox image of"), async {
        link.runtime().status(request).await
    });
    let status = asked.await?;
    Ok(status
        .info
        .get("config")
        .and_then(|config| configured_sandbox_image(config)))
}

fn configured_sandbox_image(config: &str) -> Option<String> {
    let config: serde_json::Value = serde_json::from_str(config).ok()?;
    let image = config.get("sandboxImage")?.as_str()?;
    (!image.is_empty()).then(|| image.to_owned())
}

/// What containerd offers. How it keeps cgroups, old versions tell by their configuration only.
pub(crate) async fn features(link: &Link) -> Result<Features, Error> {
    let attempt = attempt("asking for the features of");
    let request = v1::StatusRequest { verbose: true };
    let status = link
        .call(attempt, async { link.runtime().status(request).await })
        .await?;
    let config = link.call(attempt, async {
        link.runtime().runtime_config(v1::RuntimeConfigRequest::default()).await
    });
    let config = config.await.ok();
    let configured = status.info.get("config").and_then(|config| cgroup_driver(config));
    let told = proto::features(status, config);
    Ok(Features {
        cgroup_driver: told.cgroup_driver.or(configured),
        ..told
    })
}

/// The cgroup driver of the default runtime, in containerd's configuration as JSON.
fn cgroup_driver(config: &str) -> Option<CgroupDriver> {
    let config: serde_json::Value = serde_json::from_str(config).ok()?;
    let containerd = config.get("containerd")?;
    let name = containerd
        .get("defaultRuntimeName")
        .and_then(|name| name.as_str())
        .unwrap_or("runc");
    let options = containerd.get("runtimes")?.get(name)?.get("options");
    let systemd = options.and_then(|options| options.get("SystemdCgroup")?.as_bool());
    Some(match systemd {
        Some(true) => CgroupDriver::Systemd,
        Some(false) | None => CgroupDriver::Cgroupfs,
    })
}

/// What containerd tells of itself, and what we know beyond: that it is away, or has no network of ours.
pub(crate) fn conditions(health: &Health, socket: &Path, without_network: Option<String>) -> Vec<Condition> {
    let failing = |kind: &str, reason: &str, message: String| Condition {
        kind: kind.to_owned(),
        status: false,
        reason: reason.to_owned(),
        message,
    };
    let away = |reason: &str| {
        let message = format!("containerd at {} does not answer: {reason}", socket.display());
        vec![failing("RuntimeReady", "ContainerdAway", message)]
    };
    let told = match health {
        Health::Unknown => return away("it was not asked yet"),
        Health::Away(reason) => return away(reason),
        Health::Up(told) => told,
    };
    let Some(reason) = without_network else {
        return told.clone();
    };
    let others = told
        .iter()
        .filter(|condition| condition.kind != "NetworkReady")
        .cloned();
    others
        .chain([failing("NetworkReady", "NoContainerNetwork", reason)])
        .collect()
}

/// Whether a containerd of this version mounts images as volumes; an older one would take the mount for one of nothing.
pub(crate) fn check_image_volumes(version: &str) -> Result<(), Error> {
    let mut numbers = version.trim_start_matches('v').split(['.', '-', '~', '+']);
    let mut number = || numbers.next()?.parse::<u32>().ok();
    match (number(), number()) {
        (Some(major), Some(minor)) if (major, minor) < (2, 1) => Err(Error::Unsupported {
            what: "an image volume",
            reason: format!("containerd 2.1 and later mount images, this is {version}"),
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(kind: &str) -> Condition {
        Condition {
            kind: kind.into(),
            status: true,
            reason: String::new(),
            message: String::new(),
        }
    }

    #[test]
    fn images_are_mounted_by_those_who_can() {
        for (version, can) in [
            ("1.6.20~ds1", false),
            ("v2.0.5", false),
            ("2.1.9", true),
            ("v3.0.0", true),
            ("unknown", true),
        ] {
            assert_eq!(check_image_volumes(version).is_ok(), can, "{version}");
        }
    }

    #[test]
    fn the_configuration_tells_the_image_of_sandboxes() {
        let image = |config| configured_sandbox_image(config);
        assert_eq!(
            image(r#"{"sandboxImage": "registry.k8s.io/pause:3.6"}"#).as_deref(),
            Some("registry.k8s.io/pause:3.6")
        );
        for config in [r#"{"sandboxImage": ""}"#, "{}", "no JSON"] {
            assert_eq!(image(config), None, "{config}");
        }
    }

    #[test]
    fn the_configuration_tells_how_cgroups_are_kept() {
        let config = r#"{"containerd": {"defaultRuntimeName": "runc", "runtimes": {"runc": {"options": {"SystemdCgroup": true}}}}}"#;
        assert_eq!(cgroup_driver(config), Some(CgroupDriver::Systemd));
        assert_eq!(
            cgroup_driver(r#"{"containerd": {"runtimes": {"runc": {}}}}"#),
            Some(CgroupDriver::Cgroupfs)
        );
        assert_eq!(cgroup_driver("{}"), None);
    }

    #[test]
    fn says_why_containers_cannot_run() {
        let socket = Path::new("/c.sock");
        let away = conditions(&Health::Away("refused".into()), socket, None);
        assert_eq!(away.len(), 1);
        assert_eq!(away[0].message, "containerd at /c.sock does not answer: refused");
        let up = Health::Up(vec![told("RuntimeReady"), told("NetworkReady")]);
        assert!(conditions(&up, socket, None).iter().all(|condition| condition.status));
        let without = conditions(&up, socket, Some("taken".into()));
        assert_eq!(
            (without.len(), without[1].status, &*without[1].message),
            (2, false, "taken")
        );
    }
}
