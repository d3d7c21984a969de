//! What applets do, and what they cannot do.

use std::{
    fs::{self, File},
    os::fd::OwnedFd,
    path::Path,
};

use super::*;

struct World {
    directory: tempfile::TempDir,
    around: Surroundings,
}

/// Two volumes, `/data` and the read-only `/etc/config`, beside a secret that is not to be reached.
fn world() -> World {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    for name in ["data", "config", "outside"] {
        fs::create_dir(root.join(name)).unwrap();
    }
    fs::write(root.join("data/a.txt"), "one\ntwo\nthree\n").unwrap();
    fs::write(root.join("config/key"), "value").unwrap();
    fs::write(root.join("outside/secret"), "secret").unwrap();
    let open = |name: &str| OwnedFd::from(File::open(root.join(name)).unwrap());
    let mounts = [
        Mount::new("/data", open("data"), false),
        Mount::new("/etc/config/", open("config"), true),
    ];
    let around = Surroundings {
        view: View::new(Arc::new(mounts), ""),
        env: Arc::new([
            ("A".to_owned(), "1".to_owned()),
            ("B".to_owned(), "two words".to_owned()),
        ]),
        hostname: "web-0".to_owned(),
        processes: vec!["hello.wasm --fast".to_owned()],
    };
    World { directory, around }
}

impl World {
    fn run_with(&self, stdin: &[u8], command: &[&str]) -> (i32, Vec<u8>, String) {
        let command: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
        let (mut stdin, mut stdout, mut stderr) = (stdin, Vec::new(), Vec::new());
        let mut streams = Streams {
            stdin: &mut stdin,
            stdout: &mut stdout,
            stderr: &mut stderr,
        };
        let code = run(&self.around, &command, &mut streams);
        (code, stdout, String::from_utf8(stderr).unwrap())
    }

    fn run(&self, line: &str) -> (i32, String, String) {
        let words: Vec<&str> = line.split(' ').collect();
        let (code, stdout, stderr) = self.run_with(b"from stdin\n", &words);
        (code, String::from_utf8(stdout).unwrap(), stderr)
    }

    /// Runs what succeeds; what it said.
    fn said(&self, line: &str) -> String {
        let (code, stdout, stderr) = self.run(line);
        assert_eq!((code, stderr.as_str()), (0, ""), "{line}");
        stdout
    }

    fn path(&self, inside: &str) -> std::path::PathBuf {
        self.directory.path().join(inside)
    }
}

#[test]
fn say_what_the_container_sees() {
    let world = world();
    let cases = [
        ("ls /", "data\netc\n"),
        ("ls /etc", "config\n"),
        ("ls /etc/config", "key\n"),
        ("ls data", "a.txt\n"),
        ("cat /data/a.txt", "one\ntwo\nthree\n"),
        ("/bin/cat", "from stdin\n"),
        ("cat /data/../etc/config/key", "value"),
        ("head -n 2 /data/a.txt", "one\ntwo\n"),
        ("head -c3 /data/a.txt", "one"),
        ("tail -n 1 /data/a.txt", "three\n"),
        ("tail -n+2 /data/a.txt", "two\nthree\n"),
        ("tail -c+5 /data/a.txt", "two\nthree\n"),
        ("tail -c 4 /data/a.txt", "ree\n"),
        ("wc /data/a.txt", "3 3 14 /data/a.txt\n"),
        ("wc -l", "1\n"),
        ("env", "A=1\nB=two words\n"),
        ("printenv A", "1\n"),
        ("echo -n a b", "a b"),
        ("hostname", "web-0\n"),
        ("pwd", "/\n"),
        ("ps", "PID   COMMAND\n    1 hello.wasm --fast\n"),
        ("find /data -type f -name *.txt", "/data/a.txt\n"),
        ("find /etc", "/etc\n/etc/config\n/etc/config/key\n"),
        ("true", ""),
        ("test -d /data", ""),
        ("[ -f /data/a.txt ]", ""),
        ("test ! -e /nowhere", ""),
    ];
    for (line, expected) in cases {
        assert_eq!(world.said(line), expected, "{line}");
    }
}

#[test]
fn fail_as_programs_do() {
    let world = world();
    let cases = [
        ("false", 1, ""),
        ("printenv C", 1, ""),
        ("test -d /data/a.txt", 1, ""),
        ("cat /data/b.txt", 1, "cat: /data/b.txt: No such file or directory\n"),
        ("cat /data", 1, "cat: /data: Is a directory\n"),
        ("ls -x", 2, "ls: unrecognized option: x\n"),
        ("tar f -", 2, "tar: one of c, x and t must be given\n"),
        ("rm /data", 1, "rm: /data: Is a directory\n"),
        ("mkdir /new", 1, "mkdir: /new: Read-only file system\n"),
        ("rm /etc/config/key", 1, "rm: /etc/config/key: Read-only file system\n"),
        (
            "cp /data/a.txt /etc/config/b",
            1,
            "cp: /data/a.txt: Read-only file system\n",
        ),
    ];
    for (line, code, error) in cases {
        let (found, stdout, stderr) = world.run(line);
        assert_eq!((found, stdout.as_str(), stderr.as_str()), (code, "", error), "{line}");
    }
    let (code, _, stderr) = world.run("sh -c ls");
    assert_eq!(code, 127);
    assert!(
        stderr.starts_with("sh: not found") && stderr.contains("cat, cp, date"),
        "{stderr}"
    );
}

#[test]
fn change_files_of_volumes() {
    let world = world();
    for line in [
        "mkdir -p /data/x/y",
        "cp /data/a.txt /data/x/y/b.txt",
        "cp -r /data/x /data/z",
        "rm -r /data/x",
        "rm -f /data/nothing",
    ] {
        world.said(line);
    }
    assert_eq!(
        world.said("find /data"),
        "/data\n/data/a.txt\n/data/z\n/data/z/y\n/data/z/y/b.txt\n"
    );
    assert_eq!(
        fs::read_to_string(world.path("data/z/y/b.txt")).unwrap(),
        "one\ntwo\nthree\n"
    );
}

#[test]
fn never_leave_the_volumes() {
    let world = world();
    let link = |target: &Path, name: &str| std::os::unix::fs::symlink(target, world.path("data").join(name)).unwrap();
    link(&world.path("outside"), "absolute");
    link(Path::new("../outside"), "relative");
    link(Path::new("/proc/self/root"), "magic");
    link(Path::new("../../../../../../etc"), "far");
    link(Path::new("a.txt"), "inside");
    assert_eq!(world.said("cat /data/inside"), "one\ntwo\nthree\n");
    for line in [
        "cat /data/absolute/secret",
        "cat /data/relative/secret",
        "cat /data/../outside/secret",
        "cat ../../outside/secret",
        "cat /data/magic/etc/passwd",
        "cat /data/far/passwd",
        "ls /data/absolute/",
        "cp /data/a.txt /data/relative/stolen",
        "cp -r /data/relative /data/copy",
        "rm /data/relative/secret",
        "mkdir /data/relative/new",
        "tar cf - /data/relative/secret",
        "tar xf - -C /data/relative",
        "stat /data/relative/secret",
        "find /data/relative/",
    ] {
        let (code, stdout, _) = world.run(line);
        assert!(code != 0 || !stdout.contains("secret"), "{line}: {stdout}");
        assert!(!stdout.contains("root:"), "{line}: {stdout}");
    }
    // A recursive removal takes the links, not what they point to.
    world.run("rm -r /data/relative /data/absolute");
    let left: Vec<_> = fs::read_dir(world.path("outside"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["secret"]);
}

#[test]
fn tar_packs_and_unpacks() {
    let world = world();
    world.said("mkdir -p /data/tree/empty");
    world.said("cp /data/a.txt /data/tree/a.txt");
    std::os::unix::fs::symlink("a.txt", world.path("data/tree/link")).unwrap();
    let (code, packed, stderr) = world.run_with(b"", &["tar", "cf", "-", "/data/tree"]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    world.said("mkdir /data/copy");
    let command = [
        "tar",
        "--no-same-permissions",
        "--no-same-owner",
        "-xmf",
        "-",
        "-C",
        "/data/copy",
    ];
    let (code, _, stderr) = world.run_with(&packed, &command);
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert_eq!(
        world.said("find /data/copy/data/tree"),
        "/data/copy/data/tree\n/data/copy/data/tree/a.txt\n/data/copy/data/tree/empty\n/data/copy/data/tree/link\n"
    );
    assert_eq!(world.said("cat /data/copy/data/tree/link"), "one\ntwo\nthree\n");
    let (_, listed, _) = world.run_with(&packed, &["tar", "tf", "-"]);
    assert_eq!(listed.iter().filter(|byte| **byte == b'\n').count(), 4);
}

/// An archive with one file, whose name is written as it is.
fn hostile(name: &str, kind: tar::EntryType, target: &str) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o644);
    let content: &[u8] = if kind == tar::EntryType::Regular {
        b"stolen"
    } else {
        b""
    };
    header.set_size(content.len() as u64);
    header.set_cksum();
    let mut builder = tar::Builder::new(Vec::new());
    builder.append(&header, content).unwrap();
    builder.into_inner().unwrap()
}

#[test]
fn tar_entries_stay_in_their_directory() {
    use tar::EntryType::{Char, Link, Regular, Symlink};
    let world = world();
    world.said("mkdir /data/in");
    std::os::unix::fs::symlink(world.path("outside"), world.path("data/in/out")).unwrap();
    std::os::unix::fs::symlink("../a.txt", world.path("data/in/file")).unwrap();
    let absolute = world.path("outside/secret");
    let absolute = absolute.to_str().unwrap();
    for (name, kind, target) in [
        ("../a.txt", Regular, ""),
        ("x/../../a.txt", Regular, ""),
        (absolute, Regular, ""),
        ("out/secret", Regular, ""),
        ("escape", Symlink, absolute),
        ("hard", Link, "../a.txt"),
        ("device", Char, ""),
    ] {
        let archive = hostile(name, kind, target);
        let (code, _, stderr) = world.run_with(&archive, &["tar", "xf", "-", "-C", "/data/in"]);
        assert_eq!(code, 1, "{name}: {stderr}");
    }
    // A file that takes the place of a link leaves alone what the link pointed to.
    let (code, _, stderr) = world.run_with(&hostile("file", Regular, ""), &["tar", "xf", "-", "-C", "/data/in"]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert_eq!(fs::read_to_string(world.path("data/in/file")).unwrap(), "stolen");
    assert_eq!(
        fs::read_to_string(world.path("data/a.txt")).unwrap(),
        "one\ntwo\nthree\n"
    );
    assert_eq!(fs::read_to_string(world.path("outside/secret")).unwrap(), "secret");
}
