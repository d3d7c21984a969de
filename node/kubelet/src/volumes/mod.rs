//! The volumes of a pod on disk, under `pods/<uid>/volumes/<plugin>/<name>` as Kubernetes lays them out.
//!
//! Preparing is idempotent and is also how content is brought up to date. Claims lead to directories of the node (`claims`),
//! or to volumes that a driver has mounted before ([`crate::csi`]). A pod that asks for a kind that is not supported gets a
//! `FailedMount` event that names it.

mod claims;
mod ownership;
mod payload;
pub(crate) mod storage;
mod subpath;
mod token;
mod writer;

use std::{
    collections::{BTreeMap, HashMap},
    fs, io,
    os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use jiff::Timestamp;

pub(crate) use claims::{Claimed, resolve as resolve_claims};
pub(crate) use payload::{TokenKey, needs};
pub(crate) use subpath::resolve as resolve_sub_path;
pub(crate) use token::{Tokens, request_token};

use crate::{
    csi,
    env::{Facts, Objects},
    objects::Unread,
    pod::{EmptyDir, HostPath, Pod, Volume},
};

/// Why a pod's volumes could not be prepared; the text of the `FailedMount` event.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("MountVolume.SetUp failed for volume \"{volume}\" : {source}")]
    Content { volume: String, source: payload::Error },
    #[error("MountVolume.SetUp failed: {0}")]
    Unread(#[from] Unread),
    #[error("MountVolume.SetUp failed for volume \"{volume}\" : {source}")]
    Io { volume: String, source: io::Error },
    #[error("MountVolume.SetUp failed for volume \"{volume}\" : hostPath type check failed: {path} is not {wanted}")]
    HostPath {
        volume: String,
        path: String,
        wanted: String,
    },
    #[error("MountVolume.SetUp failed for volume \"{volume}\" : failed to fetch token: {source}")]
    Token { volume: String, source: client::Error },
    #[error("MountVolume.SetUp failed for volume \"{volume}\" : {source}")]
    Claim { volume: String, source: claims::Error },
    #[error(transparent)]
    Driver(#[from] csi::Error),
}

/// The directory that holds everything of one pod.
pub(crate) fn pod_dir(data_dir: &Path, uid: &str) -> PathBuf {
    data_dir.join("pods").join(uid)
}

/// Where a volume lies; `None` for kinds that are not supported.
pub(crate) fn path(data_dir: &Path, uid: &str, volume: &Volume) -> Option<PathBuf> {
    if let Some(host) = &volume.host_path {
        return Some(PathBuf::from(&host.path));
    }
    let plugin = if volume.empty_dir.is_some() {
        "kubernetes.io~empty-dir"
    } else if volume.config_map.is_some() {
        "kubernetes.io~configmap"
    } else if volume.secret.is_some() {
        "kubernetes.io~secret"
    } else if volume.downward_api.is_some() {
        "kubernetes.io~downward-api"
    } else if volume.projected.is_some() {
        "kubernetes.io~projected"
    } else {
        return None;
    };
    Some(pod_dir(data_dir, uid).join("volumes").join(plugin).join(&volume.name))
}

/// Makes all volumes of a pod be as they should. Blocking.
///
/// # Errors
/// The first volume that cannot be prepared.
pub(crate) fn prepare(
    data_dir: &Path,
    pod: &Pod,
    objects: &Objects,
    tokens: &HashMap<TokenKey, String>,
    claims: &BTreeMap<String, Claimed>,
    facts: &Facts,
    now: Timestamp,
) -> Result<(), Error> {
    let sources = payload::Sources {
        pod,
        objects,
        tokens,
        facts,
    };
    let version = version(now);
    let context = pod.spec.security_context.as_deref();
    let group = context.and_then(|c| c.fs_group).and_then(|g| u32::try_from(g).ok());
    for volume in &pod.spec.volumes {
        let content = |source| Error::Content {
            volume: volume.name.clone(),
            source,
        };
        let io = |source| Error::Io {
            volume: volume.name.clone(),
            source,
        };
        if let Some(claim) = claims.get(&volume.name) {
            if claim.provisioned {
                provisioned(&claim.path).map_err(io)?;
            }
            let host = HostPath {
                path: claim.path.to_string_lossy().into_owned(),
                kind: claim.kind.clone(),
            };
            host_path(volume, &host)?;
            let shared = group.filter(|_| claim.shares && !claim.read_only);
            if let (Some(group), Some(context)) = (shared, context) {
                let mark = pod_dir(data_dir, &pod.metadata.uid).join("volumes/kubernetes.io~local-volume");
                share(claim, &mark.join(&volume.name), group, &context.fs_group_change_policy).map_err(io)?;
            }
            continue;
        }
        if volume.image.is_some() {
            continue; // the runtime mounts it
        }
        let Some(path) = path(data_dir, &pod.metadata.uid, volume) else {
            let kind = volume.other.keys().next().cloned().unwrap_or_default();
            return Err(content(payload::Error::Unsupported { kind }));
        };
        if let Some(host) = &volume.host_path {
            host_path(volume, host)?;
        } else if let Some(source) = &volume.empty_dir {
            empty_dir(&path, source, pod).map_err(io)?;
            group
                .map_or(Ok(()), |group| ownership::root(&path, group, true))
                .map_err(io)?;
        } else if let Some(files) = payload::files(volume, &sources).map_err(content)? {
            writer::make_dir(&path).map_err(io)?;
            group
                .map_or(Ok(()), |group| ownership::root(&path, group, false))
                .map_err(io)?;
            writer::write(&path, &files, &version).map_err(io)?;
        }
    }
    Ok(())
}

/// A directory that the cluster's own provisioner promised: it is made where it is first used, for whoever uses it.
fn provisioned(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o777))
}

/// Gives a claimed volume to the pod's group, once per pod: `mark` remembers it.
fn share(claim: &Claimed, mark: &Path, group: u32, policy: &str) -> io::Result<()> {
    if mark.is_dir() {
        return Ok(());
    }
    ownership::tree(&claim.path, group, policy)?;
    fs::create_dir_all(mark)
}

/// The name of a content directory, `..2026_11_20_11_26_41.123456789`; unique as long as time passes.
fn version(now: Timestamp) -> String {
    let stamp = now.strftime("..%Y_%m_%d_%H_%M_%S");
    format!("{stamp}.{:09}", now.subsec_nanosecond())
}

/// Everybody may write: what runs in the pod does so as some unprivileged user.
fn empty_dir(path: &Path, source: &EmptyDir, pod: &Pod) -> io::Result<()> {
    let file_system = match &*source.medium {
        "" => None,
        "Memory" => Some(("tmpfs", memory_options(source))),
        pages if pages.starts_with(HUGE_PAGES) => Some(("hugetlbfs", huge_page_options(pages, pod)?)),
        other => return Err(invalid(format!("unknown storage medium {other:?}"))),
    };
    // A directory whose memory is not there is one from before a reboot.
    if path.is_dir() && (file_system.is_none() || is_mounted(path)?) {
        return Ok(());
    }
    fs::DirBuilder::new().recursive(true).mode(0o755).create(path)?;
    if let Some((kind, options)) = file_system {
        let flags = nix::mount::MsFlags::MS_NOSUID | nix::mount::MsFlags::MS_NODEV;
        nix::mount::mount(Some(kind), path, Some(kind), flags, Some(&*options))?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o777))
}

fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

/// Whether something is mounted here: it is on another file system than what it is in.
fn is_mounted(path: &Path) -> io::Result<bool> {
    let above = path.parent().unwrap_or(path);
    Ok(fs::metadata(path)?.dev() != fs::metadata(above)?.dev())
}

fn memory_options(source: &EmptyDir) -> String {
    let size = source
        .size_limit
        .as_ref()
        .and_then(|q| q.0.parse::<api::Quantity>().ok());
    size.map_or_else(|| "mode=0777".to_owned(), |q| format!("mode=0777,size={}", q.value()))
}

/// The medium of huge pages; with a size (`HugePages-2Mi`) if the pod has pages of several.
const HUGE_PAGES: &str = "HugePages";

/// The pages are those that the medium names, else those that the pod's containers ask for.
fn huge_page_options(medium: &str, pod: &Pod) -> io::Result<String> {
    let named = medium.strip_prefix(HUGE_PAGES).and_then(|rest| rest.strip_prefix('-'));
    let containers = pod.lasting_containers();
    let mut asked: Vec<&str> = containers
        .flat_map(|(_, container)| container.resources.limits.keys())
        .filter_map(|name| name.strip_prefix("hugepages-"))
        .collect();
    asked.sort_unstable();
    asked.dedup();
    let size = match (named, &*asked) {
        (Some(size), _) => size,
        (None, [size]) => size,
        (None, []) => {
            return Err(invalid(
                "medium HugePages needs containers that have huge pages".to_owned(),
            ));
        }
        (None, _) => return Err(invalid("medium HugePages does not say which size of pages".to_owned())),
    };
    let bytes = size
        .parse::<api::Quantity>()
        .map_err(|e| invalid(format!("page size {size:?}: {e}")))?;
    Ok(format!("mode=0777,pagesize={}", bytes.value()))
}

fn host_path(volume: &Volume, host: &HostPath) -> Result<(), Error> {
    let path = Path::new(&host.path);
    let found = fs::metadata(path).ok().map(|m| m.file_type());
    let is = |wanted: fn(&fs::FileType) -> bool| found.as_ref().is_some_and(wanted);
    let (holds, wanted) = match &*host.kind {
        "" => (true, ""),
        "DirectoryOrCreate" => {
            let made = found.is_some() || fs::DirBuilder::new().recursive(true).mode(0o755).create(path).is_ok();
            (made && path.is_dir(), "a directory")
        }
        "FileOrCreate" => {
            let made = found.is_some() || fs::OpenOptions::new().append(true).create(true).open(path).is_ok();
            (made && path.is_file(), "a file")
        }
        "Directory" => (is(fs::FileType::is_dir), "a directory"),
        "File" => (is(fs::FileType::is_file), "a file"),
        "Socket" => (is(FileTypeExt::is_socket), "a socket"),
        "CharDevice" => (is(FileTypeExt::is_char_device), "a character device"),
        "BlockDevice" => (is(FileTypeExt::is_block_device), "a block device"),
        other => (false, other),
    };
    if holds {
        return Ok(());
    }
    Err(Error::HostPath {
        volume: volume.name.clone(),
        path: host.path.clone(),
        wanted: wanted.to_owned(),
    })
}

/// Removes everything of a pod, without following a link that the pod may have made, and without entering a volume that a
/// driver has mounted. Blocking.
///
/// # Errors
/// Whatever the file system says, or a driver's volume is still mounted; what is left can be removed by trying again.
pub(crate) fn remove(data_dir: &Path, uid: &str) -> io::Result<()> {
    let directory = pod_dir(data_dir, uid);
    if !directory.exists() {
        return Ok(());
    }
    let drivers = csi::of_pod(data_dir, uid);
    for mount in csi::mounts_below(&directory)? {
        if mount.starts_with(fs::canonicalize(&drivers).unwrap_or_else(|_| drivers.clone())) {
            let text = format!("{} is still mounted", mount.display());
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, text));
        }
        // Memory, and what a container has mounted into its volume.
        nix::mount::umount2(&mount, nix::mount::MntFlags::MNT_DETACH)?;
    }
    // `remove_dir_all` opens directories relative to each other and unlinks symbolic links instead of following them.
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use serde_json::json;

    use super::*;

    fn pod(volumes: serde_json::Value) -> Pod {
        let pod = json!({"metadata": {"name": "p", "namespace": "ns", "uid": "u1"}, "spec": {"volumes": volumes}});
        serde_json::from_value(pod).expect("pod")
    }

    fn prepare_in(dir: &Path, volumes: serde_json::Value) -> Result<(), String> {
        let (objects, tokens) = (Objects::new(), HashMap::new());
        prepare(
            dir,
            &pod(volumes),
            &objects,
            &tokens,
            &BTreeMap::new(),
            &Facts::default(),
            Timestamp::UNIX_EPOCH,
        )
        .map_err(|e| e.to_string())
    }

    #[test]
    fn empty_directories_are_for_everybody_and_keep_their_content() {
        let dir = tempfile::tempdir().expect("dir");
        let volumes = json!([{"name": "work", "emptyDir": {}}]);
        prepare_in(dir.path(), volumes.clone()).expect("prepares");
        let path = dir.path().join("pods/u1/volumes/kubernetes.io~empty-dir/work");
        assert_eq!(fs::metadata(&path).expect("made").permissions().mode() & 0o777, 0o777);
        fs::write(path.join("x"), "kept").expect("writes");
        prepare_in(dir.path(), volumes).expect("prepares again");
        assert_eq!(fs::read_to_string(path.join("x")).expect("kept"), "kept");
    }

    #[test]
    fn huge_pages_are_of_the_size_that_is_asked_for() {
        let asking = |limits: serde_json::Value| -> Pod {
            let spec = json!({"containers": [{"name": "c", "resources": {"limits": limits}}]});
            serde_json::from_value(json!({"metadata": {"uid": "u"}, "spec": spec})).expect("pod")
        };
        let one = asking(json!({"hugepages-2Mi": "4Mi", "cpu": "1"}));
        let two = asking(json!({"hugepages-2Mi": "4Mi", "hugepages-1Gi": "1Gi"}));
        let options = |medium: &str, pod: &Pod| huge_page_options(medium, pod).map_err(|error| error.to_string());
        assert_eq!(options("HugePages", &one), Ok("mode=0777,pagesize=2097152".to_owned()));
        assert_eq!(
            options("HugePages-1Gi", &two),
            Ok("mode=0777,pagesize=1073741824".to_owned())
        );
        assert!(options("HugePages", &two).expect_err("refused").contains("which size"));
        assert!(options("HugePages", &asking(json!({}))).is_err());
    }

    #[test]
    fn failures_name_the_volume_and_the_reason() {
        let dir = tempfile::tempdir().expect("dir");
        let cases = [
            (
                json!([{"name": "a", "nfs": {}}]),
                "MountVolume.SetUp failed for volume \"a\" : volume type nfs is not supported",
            ),
            (
                json!([{"name": "a", "emptyDir": {"medium": "Ether"}}]),
                "MountVolume.SetUp failed for volume \"a\" : unknown storage medium \"Ether\"",
            ),
            (
                json!([{"name": "a", "configMap": {"name": "x"}}]),
                "MountVolume.SetUp failed for volume \"a\" : configmap \"x\" not found",
            ),
            (
                json!([{"name": "a", "hostPath": {"path": "/no/such", "type": "Directory"}}]),
                "MountVolume.SetUp failed for volume \"a\" : hostPath type check failed: /no/such is not a directory",
            ),
        ];
        for (volumes, want) in cases {
            assert_eq!(prepare_in(dir.path(), volumes), Err(want.to_owned()));
        }
    }

    #[test]
    fn removal_does_not_follow_links_out_of_the_pod() {
        let dir = tempfile::tempdir().expect("dir");
        let outside = dir.path().join("outside");
        fs::create_dir(&outside).expect("dir");
        fs::write(outside.join("precious"), "x").expect("writes");
        prepare_in(dir.path(), json!([{"name": "work", "emptyDir": {}}])).expect("prepares");
        symlink(
            &outside,
            dir.path().join("pods/u1/volumes/kubernetes.io~empty-dir/work/link"),
        )
        .expect("link");
        remove(dir.path(), "u1").expect("removes");
        assert!(!dir.path().join("pods/u1").exists() && outside.join("precious").exists());
        remove(dir.path(), "u1").expect("removing the absent succeeds");
    }
}
