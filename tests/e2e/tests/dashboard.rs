//! The dashboard in a real browser: `web-ui/tests` against the built binary, in a network namespace of its own.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    process::{Command, Stdio},
};

use e2e::{Machine, binary, need_root};

/// What a skipped test lacks, if anything.
fn lacking(web_ui: &Path) -> Option<&'static str> {
    let browser = std::env::var_os("CHROMIUM").unwrap_or_else(|| "/usr/bin/chromium".into());
    if !web_ui.join("node_modules/.wherry").exists() || !web_ui.join("dist/index.html").exists() {
        return Some("scripts/web-ui.sh to have run, with Node.js 20.19 or newer");
    }
    (!Path::new(&browser).exists()).then_some("Chromium")
}

/// Runs one file of the browser's tests.
fn browse(file: &str) {
    let web_ui = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../web-ui");
    if let Some(what) = lacking(&web_ui) {
        eprintln!("SKIPPED: {} needs {what}", module_path!());
        return;
    }
    assert!(web_ui.join(file).is_file(), "there is no {file}");
    let machine = Machine::new();
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let mut command: Command = machine.command("npm");
    let status = command
        .args(["run", "--silent", "browser", "--", file])
        .current_dir(&web_ui)
        .env("WHERRY_BIN", binary())
        .env("TMPDIR", scratch.path())
        .stdin(Stdio::null())
        .status()
        .expect("npm starts");
    assert!(status.success(), "the browser's tests fail; see above");
}

#[test]
fn people_use_it_in_chromium() {
    need_root!();
    browse("tests/dashboard.test.ts");
}

#[test]
fn people_use_it_every_day() {
    need_root!();
    browse("tests/everyday.test.ts");
}

#[test]
fn people_bring_programs_and_come_from_issuers() {
    need_root!();
    browse("tests/programs.test.ts");
}

#[test]
fn it_keeps_its_promises_in_chromium() {
    need_root!();
    browse("tests/promises.test.ts");
}

#[test]
fn the_first_load_is_small() {
    need_root!();
    browse("tests/size.test.ts");
}

/// A checkout with what `scripts/web-ui.sh` looks at, and a `PATH` of these programs alone.
fn without_node(directory: &Path, programs: &[(&str, &str)]) -> Command {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let (scripts, web_ui, bin) = (
        directory.join("scripts"),
        directory.join("web-ui"),
        directory.join("bin"),
    );
    for made in [&scripts, &web_ui.join("dist"), &bin] {
        fs::create_dir_all(made).expect("a directory");
    }
    fs::copy(root.join("scripts/web-ui.sh"), scripts.join("web-ui.sh")).expect("the script");
    fs::copy(root.join("web-ui/package-lock.json"), web_ui.join("package-lock.json")).expect("the lock file");
    for program in ["bash", "dirname", "find", "touch"] {
        let found = ["/usr/bin", "/bin"].map(|at| Path::new(at).join(program));
        let found = found
            .iter()
            .find(|path| path.exists())
            .expect("a program of every Debian");
        symlink(found, bin.join(program)).expect("a link");
    }
    for (name, script) in programs {
        fs::write(bin.join(name), script).expect("a program");
        fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755)).expect("permissions");
    }
    let mut command = Command::new(scripts.join("web-ui.sh"));
    command.env_clear().env("PATH", &bin).stdin(Stdio::null());
    command
}

/// The build goes on without; the crate's own tests show the page that is served then.
#[test]
fn without_node_the_build_goes_on_and_says_what_is_missing() {
    let old = "#!/usr/bin/env bash\nexit 1\n";
    let never = "#!/usr/bin/env bash\necho npm was run >&2\nexit 1\n";
    for programs in [&[][..], &[("node", old), ("npm", never)]] {
        let scratch = tempfile::tempdir().expect("a temporary directory");
        let output = without_node(scratch.path(), programs)
            .output()
            .expect("the script starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        assert_eq!(
            said,
            "web-ui.sh: there is no Node.js 20.19 or newer, so this build has no dashboard\n"
        );
        let made = fs::read_dir(scratch.path().join("web-ui/dist")).expect("dist").count();
        assert_eq!(made, 0);
        // Releases are made where it must not be missing.
        let scratch = tempfile::tempdir().expect("a temporary directory");
        let refused = without_node(scratch.path(), programs).env("CI", "true").status();
        assert!(!refused.expect("the script starts").success());
    }
}

/// The README shows what `web-ui/scripts/pictures.sh` takes, light and dark, each from what a test leaves.
#[test]
fn every_picture_is_taken_and_shown() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let read = |path: &str| fs::read_to_string(root.join(path)).expect("a file of the repository");
    let (script, readme) = (read("web-ui/scripts/pictures.sh"), read("README.md"));
    let tests: String = ["dashboard", "everyday", "programs", "promises"]
        .map(|name| read(&format!("web-ui/tests/{name}.test.ts")))
        .concat();
    let list = script
        .split("for pair in")
        .nth(1)
        .and_then(|rest| rest.split(';').next());
    let pairs: Vec<(&str, &str)> = list
        .expect("the pictures")
        .split_whitespace()
        .filter_map(|pair| pair.split_once('='))
        .collect();
    assert!(pairs.len() > 15, "{pairs:?}");
    for (name, artifact) in &pairs {
        assert!(tests.contains(&format!("'{artifact}')")), "no test leaves {artifact}");
        for theme in ["light", "dark"] {
            let path = format!("docs/images/{name}-{theme}.png");
            assert!(readme.contains(&path), "README.md does not show {path}");
            assert!(root.join(&path).is_file(), "there is no {path}");
        }
    }
    assert_eq!(readme.matches("docs/images/").count(), 2 * pairs.len());
}

/// What nobody runs shows nothing.
#[test]
fn no_file_is_forgotten() {
    let run = include_str!("dashboard.rs");
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../web-ui/tests");
    for entry in std::fs::read_dir(tests).expect("the dashboard's tests") {
        let name = entry.expect("a file").file_name().to_string_lossy().into_owned();
        if name.ends_with(".test.ts") {
            assert!(run.contains(&format!("\"tests/{name}\"")), "{name} is run by no test");
        }
    }
}
