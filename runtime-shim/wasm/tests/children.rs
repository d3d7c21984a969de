//! The crate's two kinds of children as processes of their own, with all that they give up: this program starts itself
//! as a compile child and as a sandbox host.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::panic,
    reason = "a test program with a main function of its own"
)]

#[path = "../src/host/fixtures.rs"]
mod fixtures;
mod support;

use std::{
    fs::{self, File},
    io,
    net::Ipv4Addr,
    path::Path,
    process::ExitCode,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use wasm::protocol::compiled::{Compiled, Guest, Outcome, Refusal};

use self::support::{Agent, Container, Host};

type Test = (&'static str, fn() -> io::Result<()>);

const TESTS: [Test; 5] = [
    ("a_compile_child_compiles_as_nobody", a_compile_child_compiles_as_nobody),
    (
        "a_compile_child_says_why_it_refuses",
        a_compile_child_says_why_it_refuses,
    ),
    ("a_host_serves_without_privileges", a_host_serves_without_privileges),
    ("a_host_outlives_its_agents", a_host_outlives_its_agents),
    ("hello_does_what_its_readme_says", hello_does_what_its_readme_says),
];

const DEADLINE: Duration = Duration::from_secs(30);

/// What test runners ask of a test program: `--list`, or names to run.
fn main() -> ExitCode {
    if let Some(code) = support::as_child() {
        return code;
    }
    let words: Vec<_> = std::env::args().skip(1).collect();
    if words.iter().any(|word| word == "--list") {
        if !words.iter().any(|word| word == "--ignored") {
            TESTS.iter().for_each(|(name, _)| println!("{name}: test"));
        }
        return ExitCode::SUCCESS;
    }
    let wanted = words.iter().find(|word| !word.starts_with('-'));
    for (name, test) in TESTS
        .iter()
        .filter(|(name, _)| wanted.is_none_or(|wanted| name.contains(wanted.as_str())))
    {
        if let Err(error) = test() {
            eprintln!("{name}: {error}");
            return ExitCode::FAILURE;
        }
        println!("{name}: ok");
    }
    ExitCode::SUCCESS
}

fn block_on(test: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { timeout(DEADLINE, test).await? })
}

fn compiled(binary: &[u8]) -> io::Result<(Compiled, File)> {
    match support::compile(binary)? {
        (Outcome::Compiled(compiled), code) => Ok((compiled, code)),
        (Outcome::Refused(refusal), _) => Err(io::Error::other(refusal)),
    }
}

fn a_compile_child_compiles_as_nobody() -> io::Result<()> {
    for (binary, guest) in [
        (fixtures::http("unreachable"), Guest::Http),
        (fixtures::cli("(i32.const 0)"), Guest::Command),
        (fixtures::command(""), Guest::Preview1),
    ] {
        let (compiled, code) = compiled(&binary)?;
        assert_eq!(compiled.guest, guest);
        assert_eq!(code.metadata()?.len(), compiled.code_length);
    }
    Ok(())
}

fn a_compile_child_says_why_it_refuses() -> io::Result<()> {
    let (outcome, _) = support::compile(b"<!doctype html>")?;
    assert!(
        matches!(outcome, Outcome::Refused(Refusal::NotWasm { .. })),
        "{outcome:?}"
    );
    let (outcome, _) = support::compile(&fixtures::missing_import())?;
    let Outcome::Refused(refusal) = outcome else {
        panic!("it compiled")
    };
    assert!(
        refusal.to_string().contains("wasi:nn/tensor@0.2.0-rc-2024-10-28"),
        "{refusal}"
    );
    Ok(())
}

/// The `Name:` line of a process's status.
fn status(pid: u32, name: &str) -> io::Result<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    Ok(line.unwrap_or_default().trim().to_owned())
}

async fn hello(agent: &mut Agent, address: Ipv4Addr) -> io::Result<()> {
    let (compiled, code) = compiled(&fixtures::http("(call $answer (local.get $out))"))?;
    let log = tempfile::tempfile()?;
    agent.run_sandbox("s", address).await?;
    let container = Container {
        id: "c",
        code: &code,
        compiled: &compiled,
        log: &log,
        env: Vec::new(),
        port: 8080,
        resources: cri::Resources::default(),
    };
    agent.run("s", container).await?;
    let reply = get(address, "/", "").await?;
    assert!(reply.ends_with("hello\n"), "{reply:?}");
    Ok(())
}

async fn get(address: Ipv4Addr, path: &str, header: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect((address, 8080)).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n{header}\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await?;
    Ok(reply)
}

fn a_host_serves_without_privileges() -> io::Result<()> {
    block_on(async {
        let host = Host::start()?;
        hello(&mut host.connect(1).await?, Ipv4Addr::new(127, 33, 8, 1)).await?;
        assert_eq!(status(host.pid(), "NoNewPrivs")?, "1");
        assert_eq!(
            status(host.pid(), "Seccomp")?,
            if cfg!(target_arch = "x86_64") { "2" } else { "0" }
        );
        assert_eq!(status(host.pid(), "CapEff")?, "0000000000000000");
        Ok(())
    })
}

fn a_host_outlives_its_agents() -> io::Result<()> {
    block_on(async {
        let host = Host::start()?;
        let address = Ipv4Addr::new(127, 33, 8, 2);
        hello(&mut host.connect(1).await?, address).await?;
        assert!(get(address, "/", "").await?.ends_with("hello\n"));
        let stats = host.connect(2).await?.stats().await?;
        assert_eq!(stats.first().map(|stats| stats.requests), Some(2));
        assert!(host.directory().join("container-c.json").exists());
        Ok(())
    })
}

/// The committed component, and one that was built from the source just now where a toolchain is at hand: `HELLO_WASM`.
fn hello_does_what_its_readme_says() -> io::Result<()> {
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/hello/hello.wasm");
    block_on(answers_as_told(&fs::read(committed)?))?;
    match std::env::var_os("HELLO_WASM") {
        Some(built) => block_on(answers_as_told(&fs::read(built)?)),
        None => Ok(()),
    }
}

async fn answers_as_told(binary: &[u8]) -> io::Result<()> {
    let (compiled, code) = compiled(binary)?;
    assert_eq!(compiled.guest, Guest::Http);
    let host = Host::start()?;
    let mut agent = host.connect(1).await?;
    let address = Ipv4Addr::new(127, 33, 8, 3);
    agent.run_sandbox("s", address).await?;
    let log = tempfile::NamedTempFile::new()?;
    let env = [("GREETING", "Good day"), ("TOKEN", "s3cret"), ("POD_NAME", "hello-0")];
    let container = Container {
        id: "c",
        code: &code,
        compiled: &compiled,
        log: log.as_file(),
        env: env.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
        port: 8080,
        resources: cri::Resources::default(),
    };
    agent.run("s", container).await?;
    let cases = [
        ("/", "", "HTTP/1.1 200", "Good day from hello-0\n"),
        ("/healthz", "", "HTTP/1.1 200", "ok\n"),
        (
            "/private",
            "authorization: Bearer s3cret\r\n",
            "HTTP/1.1 200",
            "you know the token\n",
        ),
        (
            "/private",
            "authorization: Bearer guess\r\n",
            "HTTP/1.1 401",
            "the token is missing or wrong\n",
        ),
        ("/elsewhere", "", "HTTP/1.1 404", "there is no /elsewhere here\n"),
    ];
    for (path, header, status, body) in cases {
        let reply = get(address, path, header).await?;
        // In one piece or in chunks, as the guest and the host take turns.
        assert!(reply.starts_with(status) && reply.contains(body), "{path}: {reply}");
    }
    // The end of the container is when all of its log is written.
    let stop = wasm::protocol::Call::StopContainer {
        container: cri::ContainerId("c".to_owned()),
        grace_milliseconds: 1000,
    };
    agent.call(stop, &[]).await?.map_err(io::Error::other)?;
    let logged = fs::read_to_string(log.path())?;
    let lines: Vec<_> = logged
        .lines()
        .filter_map(|line| line.split_once(" F "))
        .map(|(_, text)| text)
        .collect();
    assert_eq!(
        lines,
        [
            "GET / 200",
            "GET /private 200",
            "GET /private 401",
            "GET /elsewhere 404"
        ]
    );
    assert!(!logged.contains("s3cret"));
    Ok(())
}
