use std::{net::Ipv4Addr, time::Duration};

use tokio::time::timeout;

use super::*;
use crate::host::{code::Code, fixtures, testing::Bench};

const DEADLINE: Duration = Duration::from_secs(20);

struct Ran {
    exit: Exit,
    log: String,
    cpu: Duration,
}

/// Runs a program with a deadline; `stop` is called while it runs.
async fn run_with(binary: &[u8], resources: cri::Resources, stop: CancellationToken) -> Ran {
    let bench = Bench::new();
    let program = match &*bench.code(binary) {
        Code::Command(program) => Program::Component(program.clone()),
        Code::Preview1(program) => Program::Module(program.clone()),
        Code::Http(_) => panic!("a service"),
    };
    let prepared = bench.prepared(Ipv4Addr::LOCALHOST, &resources);
    let running = run(program, Arc::clone(&prepared), Arc::clone(&bench.ticker), stop);
    let exit = timeout(DEADLINE, running).await.expect("ends in time");
    Ran {
        exit,
        log: bench.logged(&prepared),
        cpu: Duration::from_nanos(prepared.cpu.used()),
    }
}

async fn run_to_end(binary: &[u8]) -> Ran {
    run_with(binary, cri::Resources::default(), CancellationToken::new()).await
}

#[tokio::test]
async fn exit_codes_are_told() {
    let cases = [
        (fixtures::command(""), 0),
        (fixtures::command("(call $exit (i32.const 0))"), 0),
        (fixtures::command("(call $exit (i32.const 3))"), 3),
        (fixtures::cli("(i32.const 0)"), 0),
        (fixtures::cli("(i32.const 1)"), 1),
    ];
    for (binary, code) in cases {
        assert_eq!(run_to_end(&binary).await.exit, Exit::with_code(code));
    }
}

#[tokio::test]
async fn output_is_logged_by_its_stream() {
    let ran = run_to_end(&fixtures::command(
        "(call $print (i32.const 1)) (call $print (i32.const 2))",
    ))
    .await;
    let kinds: Vec<_> = ran
        .log
        .lines()
        .map(|line| line.split_once(' ').expect("a time").1)
        .collect();
    assert_eq!(kinds, ["stdout F hello", "stderr F hello"]);
}

#[tokio::test]
async fn a_trap_is_told_with_its_cause() {
    for binary in [fixtures::command("unreachable"), fixtures::cli("unreachable")] {
        let exit = run_to_end(&binary).await.exit;
        assert_eq!((exit.code, exit.reason), (134, "Trap"));
        assert!(
            exit.message
                .starts_with("wasm trap: wasm `unreachable` instruction executed"),
            "{}",
            exit.message
        );
    }
}

#[tokio::test]
async fn memory_beyond_the_limit_ends_it_as_the_kernel_would() {
    let resources = cri::Resources {
        memory_limit: 4 << 20,
        ..Default::default()
    };
    for binary in [fixtures::command(fixtures::HOG), fixtures::cli(fixtures::HOG)] {
        let exit = run_with(&binary, resources, CancellationToken::new()).await.exit;
        assert_eq!((exit.code, exit.reason), (137, "OOMKilled"), "{}", exit.message);
    }
}

#[tokio::test]
async fn without_a_limit_the_end_is_what_a_memory_can_have() {
    let exit = run_to_end(&fixtures::command(fixtures::HOG)).await.exit;
    assert_eq!((exit.code, exit.reason), (137, "OOMKilled"));
    assert!(exit.message.contains("4 GiB"), "{}", exit.message);
}

#[tokio::test]
async fn a_limit_that_the_first_page_passes_is_an_oom_kill_too() {
    let resources = cri::Resources {
        memory_limit: 1000,
        ..Default::default()
    };
    let exit = run_with(&fixtures::command(""), resources, CancellationToken::new())
        .await
        .exit;
    assert_eq!((exit.code, exit.reason), (137, "OOMKilled"), "{}", exit.message);
}

#[tokio::test]
async fn a_guest_that_loops_forever_is_stopped() {
    for binary in [
        fixtures::command(fixtures::SPIN),
        fixtures::cli(&format!("{} (i32.const 0)", fixtures::SPIN)),
    ] {
        let stop = CancellationToken::new();
        let running = run_with(&binary, cri::Resources::default(), stop.clone());
        let stopping = async {
            tokio::task::yield_now().await;
            stop.cancel();
        };
        let (ran, ()) = tokio::join!(running, stopping);
        assert_eq!(ran.exit, Exit::stopped());
    }
}

#[tokio::test]
async fn a_quota_bounds_what_a_looping_guest_uses() {
    // A tenth of a core, and 10 ms at once.
    let resources = cri::Resources {
        cpu_quota: 10_000,
        cpu_period: 100_000,
        ..Default::default()
    };
    let stop = CancellationToken::new();
    let began = std::time::Instant::now();
    let stopping = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        stop.cancel();
    };
    let binary = fixtures::command(fixtures::SPIN);
    let (ran, ()) = tokio::join!(run_with(&binary, resources, stop.clone()), stopping);
    // What it could use beyond is one slice: a tick, or as long as a busy machine keeps the ticker waiting.
    let allowed = began.elapsed() / 10 + Duration::from_millis(10) + Duration::from_millis(100);
    assert!(ran.cpu <= allowed, "{:?} of {allowed:?}", ran.cpu);
    assert!(ran.cpu >= Duration::from_millis(10), "{:?}", ran.cpu);
}
