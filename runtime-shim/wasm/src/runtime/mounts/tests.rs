use std::io::Write;

use super::*;

struct Node {
    dir: tempfile::TempDir,
    user: Option<u32>,
}

impl Node {
    fn new(user: Option<u32>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("pods")).unwrap();
        Self { dir, user }
    }

    fn file(&self, name: &str, content: &str, mode: u32) -> cri::Mount {
        let path = self.dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut file = File::create(&path).unwrap();
        file.write_all(content.as_bytes()).unwrap();
        file.set_permissions(fs::Permissions::from_mode(mode)).unwrap();
        mount(&path, "/etc/app/config.yaml", true)
    }

    fn directory(&self, name: &str, readonly: bool) -> cri::Mount {
        let path = self.dir.path().join(name);
        fs::create_dir_all(&path).unwrap();
        mount(&path, "/data", readonly)
    }

    fn open(&self, mounts: &[cri::Mount]) -> Result<Vec<(MountedFd, OwnedFd)>, DescriptorError> {
        Opener {
            user: self.user,
            pods: &self.dir.path().join("pods"),
            views: &self.dir.path().join("views"),
        }
        .open(mounts)
    }

    fn kind(&self, name: &str) -> (u32, u32, u32) {
        let kind = fs::metadata(self.dir.path().join(name)).unwrap();
        (kind.uid(), kind.gid(), kind.mode() & 0o7777)
    }
}

fn mount(path: &Path, container_path: &str, readonly: bool) -> cri::Mount {
    cri::Mount {
        host_path: path.display().to_string(),
        container_path: container_path.into(),
        readonly,
        ..cri::Mount::default()
    }
}

fn shown(opened: &[(MountedFd, OwnedFd)]) -> Vec<(usize, &str, bool, bool)> {
    let row = |(mounted, _): &'_ (MountedFd, OwnedFd)| (usize::from(mounted.fd), mounted.readonly, mounted.file);
    opened
        .iter()
        .map(|entry| (row(entry).0, &*entry.0.container_path, row(entry).1, row(entry).2))
        .collect()
}

fn read(directory: &OwnedFd, name: &str) -> String {
    fs::read_to_string(format!("/proc/self/fd/{}/{name}", directory.as_raw_fd())).unwrap()
}

#[test]
fn directories_are_handed_over_and_files_through_directories() {
    let node = Node::new(None);
    let at = |mut mount: cri::Mount, path: &str| {
        mount.container_path = path.to_owned();
        mount
    };
    let opened = node
        .open(&[
            at(node.file("pods/p/v/a", "one", 0o644), "/etc/app//a.yaml"),
            node.directory("pods/p/w", true),
            at(node.file("pods/p/v/b", "two", 0o644), "/etc/app/b.yaml"),
            at(node.file("pods/p/v/c", "three", 0o644), "/data/inside"),
            at(node.file("pods/p/v/d", "four", 0o644), "/root"),
        ])
        .unwrap();
    assert_eq!(
        shown(&opened),
        [
            (2, "/data", true, false),
            (3, "/data/inside", true, true),
            (4, "/etc/app", true, false),
            (5, "/", true, false),
        ]
    );
    let [_, _, app, root] = &*opened else {
        panic!("four descriptors")
    };
    assert_eq!(
        (read(&app.1, "a.yaml"), read(&app.1, "b.yaml")),
        ("one".into(), "two".into())
    );
    assert_eq!(read(&root.1, "root"), "four");
}

#[test]
fn a_writable_file_is_one_file_for_both_sides() {
    let node = Node::new(None);
    let file = cri::Mount {
        readonly: false,
        ..node.file("pods/p/v/a", "one", 0o644)
    };
    let opened = node.open(&[file]).unwrap();
    assert_eq!(shown(&opened), [(2, "/etc/app", false, false)]);
    fs::write(node.dir.path().join("pods/p/v/a"), "two").unwrap();
    assert_eq!(read(&opened.first().unwrap().1, "config.yaml"), "two");
}

#[test]
fn a_read_only_file_of_another_file_system_is_copied() {
    let node = Node::new(None);
    let Ok(other) = tempfile::NamedTempFile::new_in("/dev/shm") else {
        eprintln!("skipped: /dev/shm is not writable");
        return;
    };
    fs::write(other.path(), "far").unwrap();
    let opened = node.open(&[mount(other.path(), "/etc/far", true)]).unwrap();
    assert_eq!(read(&opened.first().unwrap().1, "far"), "far");
}

#[test]
fn what_is_no_file_or_absent_or_a_link_is_refused() {
    let node = Node::new(None);
    assert!(matches!(
        node.open(&[mount(Path::new("/dev/null"), "/null", true)]),
        Err(DescriptorError::Kind { .. })
    ));
    let absent = node
        .open(&[mount(&node.dir.path().join("missing"), "/x", true)])
        .unwrap_err();
    assert!(absent.to_string().ends_with("missing cannot be opened"), "{absent}");
    let link = node.dir.path().join("pods/link");
    std::os::unix::fs::symlink("/etc", &link).unwrap();
    for path in [link.clone(), link.join("passwd")] {
        let refused = node.open(&[mount(&path, "/x", true)]).unwrap_err();
        assert!(matches!(refused, DescriptorError::Volume { .. }), "{refused}");
    }
    let many: Vec<_> = (0..=MAX_MOUNTS).map(|_| node.directory("pods/w", true)).collect();
    assert!(matches!(node.open(&many), Err(DescriptorError::TooMany { .. })));
}

#[test]
fn an_image_is_no_directory_of_the_node() {
    let node = Node::new(None);
    let image = cri::Mount {
        container_path: "/data".to_owned(),
        image: Some(Box::default()),
        ..cri::Mount::default()
    };
    let refused = node.open(&[image]).map(drop).unwrap_err().to_string();
    assert!(
        refused.starts_with("the image volume at /data cannot be mounted"),
        "{refused}"
    );
}

#[test]
fn the_hosts_user_is_given_what_it_may_write_and_shown_what_root_alone_could_read() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: needs root");
        return;
    }
    let node = Node::new(Some(4242));
    let secret = node.file("pods/s/..1/key", "hidden", 0o400);
    node.file("pods/s/..1/deep/open", "seen", 0o644);
    std::os::unix::fs::symlink("..1", node.dir.path().join("pods/s/..data")).unwrap();
    node.file("pods/readonly/key", "somebody's", 0o400);
    node.open(&[
        node.directory("pods/writable", false),
        mount(&node.dir.path().join("pods/s"), "/s", true),
        node.directory("pods/readonly", true),
        node.directory("other", false),
        node.file("other/key", "the node's", 0o400),
    ])
    .unwrap();
    assert_eq!(node.kind("pods/writable"), (4242, 4242, 0o755));
    assert_eq!(node.kind("pods/s"), (0, 4242, 0o2755));
    assert_eq!(node.kind("pods/s/..1/key"), (0, 4242, 0o440));
    assert_eq!(node.kind("pods/s/..1/deep/open"), (0, 0, 0o644));
    assert_eq!(node.kind("pods/readonly/key"), (0, 0, 0o400));
    assert_eq!((node.kind("other").0, node.kind("other/key")), (0, (0, 0, 0o400)));
    drop(secret);
}
