//! The compiler here is `cat` of a prepared answer, or a shell that misbehaves: what matters is what the agent does.

use std::{ffi::OsString, fs, io::Write, path::PathBuf};

use futures::future::join_all;

use super::*;
use crate::{
    protocol::compiled::{self, Compiled},
    spawn::program::Program,
};

struct Setup {
    dir: tempfile::TempDir,
    cache: Cache,
    shutdown: CancellationToken,
}

fn setup() -> Setup {
    let dir = tempfile::tempdir().unwrap();
    let shutdown = CancellationToken::new();
    let cache = Cache::open(&dir.path().join("aot"), TaskTracker::new(), shutdown.clone()).unwrap();
    Setup { dir, cache, shutdown }
}

fn target() -> Target {
    Target {
        engine_key: "engine".into(),
        wherry_version: "1".into(),
    }
}

fn compiled_for(engine_key: &str, code: &[u8]) -> Outcome {
    let code_length = code.len() as u64;
    Outcome::Compiled(Compiled {
        guest: Guest::Http,
        engine_key: engine_key.into(),
        code_length,
        program: None,
    })
}

impl Setup {
    fn answer(&self, outcome: &Outcome, code: &[u8]) -> PathBuf {
        let path = self.dir.path().join("answer");
        compiled::write(&mut File::create(&path).unwrap(), outcome, code).unwrap();
        path
    }

    /// Compiles by a shell script.
    async fn code_by(&self, script: &str) -> Result<Code, CodeError> {
        let words = ["/bin/sh", "-c", script].map(OsString::from);
        let compiler = || {
            let binary = tempfile::tempfile().map_err(CompilerError::Binary)?;
            Ok((Compiler(Program::open(&words)?), binary))
        };
        self.cache
            .code(&Digest::of(b"module"), &target(), compiler, |_| ())
            .await
    }

    async fn code_of(&self, outcome: &Outcome, code: &[u8]) -> Result<Code, CodeError> {
        let answer = self.answer(outcome, code);
        self.code_by(&format!("/bin/cat {}", answer.display())).await
    }
}

fn content(mut code: Code) -> String {
    let mut text = String::new();
    io::Read::read_to_string(&mut code.file, &mut text).unwrap();
    text
}

#[tokio::test]
async fn compiles_once_however_many_ask() {
    let setup = setup();
    let answer = setup.answer(&compiled_for("engine", b"code"), b"code");
    let count = setup.dir.path().join("count");
    let script = format!("echo x >> {}; /bin/cat {}", count.display(), answer.display());
    let results = join_all((0..8).map(|_| setup.code_by(&script))).await;
    for result in results {
        assert_eq!(content(result.unwrap()), "code");
    }
    assert_eq!(fs::read_to_string(&count).unwrap(), "x\n");
    assert!(setup.cache.compiling.lock().is_empty());
}

#[test]
fn a_long_compilation_has_milestones() {
    let cases = [
        (0, None),
        (1, None),
        (2, Some(2)),
        (9, Some(2)),
        (10, Some(10)),
        (29, Some(20)),
    ];
    for (seconds, expected) in cases {
        assert_eq!(milestone(Duration::from_secs(seconds)), expected, "{seconds}");
    }
}

#[tokio::test(start_paused = true)]
async fn all_who_wait_hear_the_same_once() {
    let compiling = Compiling::default();
    let heard = Mutex::new(Vec::new());
    let wait = |seconds| {
        telling(
            &compiling,
            |told| heard.lock().push(told),
            tokio::time::sleep(Duration::from_secs(seconds)),
        )
    };
    wait(5).await;
    assert!(heard.lock().is_empty(), "it waits for its turn");
    *compiling.begun.lock() = Instant::now().checked_sub(Duration::from_secs(15));
    tokio::join!(wait(3), wait(4));
    assert_eq!(*heard.lock(), [10, 10]);
}

#[tokio::test]
async fn a_refusal_is_remembered() {
    let setup = setup();
    let refusal = Refusal::MissingImports {
        imports: vec!["env.abort".into()],
    };
    let error = setup
        .code_of(&Outcome::Refused(refusal.clone()), b"")
        .await
        .unwrap_err();
    assert!(matches!(error, CodeError::Refused(found) if found == refusal));
    let error = setup.code_by("exit 1").await.unwrap_err();
    assert_eq!(error.to_string(), "it imports what this host does not offer: env.abort");
}

#[tokio::test]
async fn what_may_pass_another_time_is_not_remembered() {
    let setup = setup();
    let refusal = Refusal::TooLarge {
        detail: "memory".into(),
    };
    setup.code_of(&Outcome::Refused(refusal), b"").await.unwrap_err();
    assert!(setup.code_by("exit 3").await.is_err());
    setup.code_of(&compiled_for("engine", b"code"), b"code").await.unwrap();
}

#[tokio::test]
async fn nothing_a_bad_compiler_says_is_kept() {
    let setup = setup();
    let answer = setup
        .answer(&compiled_for("engine", b"code"), b"code")
        .display()
        .to_string();
    for (script, expected) in [
        ("exit 3".to_owned(), "exit status: 3"),
        ("echo no good >&2; exit 3".to_owned(), "no good"),
        (format!("/bin/cat {answer}; exit 3"), "exit status: 3"),
        (format!("/bin/head -c 20 {answer}"), "cut off"),
        (format!("/bin/cat {answer} {answer}"), "more than it announced"),
        ("/usr/bin/yes".to_owned(), "too long"),
        ("kill -XCPU $$".to_owned(), "more processor time"),
        ("kill -ABRT $$".to_owned(), "more memory"),
    ] {
        let error = setup.code_by(&script).await.unwrap_err();
        let text = cri::Error::failed("x", error).chain();
        assert!(text.contains(expected), "{script}: {text}");
    }
    let error = setup
        .code_of(&compiled_for("other", b"code"), b"code")
        .await
        .unwrap_err();
    assert!(matches!(error, CodeError::OtherEngine { .. }), "{error}");
    let kept: Vec<_> = fs::read_dir(setup.dir.path().join("aot"))
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(kept, ["incoming"]);
    assert_eq!(fs::read_dir(setup.dir.path().join("aot/incoming")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_stopping_agent_does_not_wait_for_the_compiler() {
    let setup = setup();
    let shutdown = setup.shutdown.clone();
    let (result, ()) = tokio::join!(setup.code_by("exec /bin/sleep 1000"), async { shutdown.cancel() });
    assert!(matches!(result, Err(CodeError::Compiler(CompilerError::Stopping))));
}

#[tokio::test]
async fn damaged_entries_are_made_anew() {
    let setup = setup();
    let key = Key::of(&Digest::of(b"module"), &target());
    setup.code_of(&compiled_for("engine", b"code"), b"code").await.unwrap();
    for damage in ["code", "json"] {
        let path = setup.dir.path().join(format!("aot/{key}.{damage}"));
        File::create(&path).unwrap().write_all(b"x").unwrap();
        let code = setup.code_of(&compiled_for("engine", b"code"), b"code").await.unwrap();
        assert_eq!(content(code), "code", "{damage}");
    }
}

#[tokio::test]
async fn eviction_leaves_what_is_wanted() {
    let setup = setup();
    setup.code_of(&compiled_for("engine", b"code"), b"code").await.unwrap();
    assert_eq!(setup.cache.evict(|_, known| *known == target()).unwrap(), 0);
    assert!(setup.code_by("exit 1").await.is_ok());
    assert_eq!(setup.cache.evict(|_, _| false).unwrap(), 1);
    assert!(setup.code_by("exit 1").await.is_err());
}

#[test]
fn keys_differ_by_everything_that_code_depends_on() {
    let target = |engine: &str, version: &str| Target {
        engine_key: engine.into(),
        wherry_version: version.into(),
    };
    let keys = [
        Key::of(&Digest::of(b"a"), &target("1", "1")),
        Key::of(&Digest::of(b"b"), &target("1", "1")),
        Key::of(&Digest::of(b"a"), &target("2", "1")),
        Key::of(&Digest::of(b"a"), &target("1", "2")),
    ];
    let distinct: std::collections::BTreeSet<_> = keys.iter().collect();
    assert_eq!(distinct.len(), keys.len());
}
