use std::{
    fs,
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use super::*;

fn write(directory: &Path, name: &str, lines: &[(&str, &str)]) {
    let mut file = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(directory.join(name))
        .expect("opens");
    for (number, (stream, text)) in lines.iter().enumerate() {
        writeln!(file, "2026-11-20T11:00:{number:02}Z {stream} {text}").expect("writes");
    }
}

async fn all(directory: &Path, options: Options) -> String {
    let chunks: Vec<_> = stream(directory.to_owned(), 0, options, || false).collect().await;
    let bytes = chunks.into_iter().flat_map(|chunk| chunk.expect("reads"));
    String::from_utf8(bytes.collect()).expect("text")
}

#[tokio::test]
async fn selects_by_stream_time_number_and_size() {
    let dir = tempfile::tempdir().expect("dir");
    write(
        dir.path(),
        "0.log",
        &[
            ("stdout", "F a"),
            ("stderr", "F b"),
            ("stdout", "P c"),
            ("stdout", "F d"),
        ],
    );
    let since = "2026-11-20T11:00:01Z".parse().ok();
    let cases = [
        (Options::default(), "a\nb\ncd\n"),
        (
            Options {
                stream: Stream::Stderr,
                ..Options::default()
            },
            "b\n",
        ),
        (
            Options {
                stream: Stream::Stdout,
                ..Options::default()
            },
            "a\ncd\n",
        ),
        (
            Options {
                since,
                ..Options::default()
            },
            "b\ncd\n",
        ),
        (
            Options {
                tail: Some(1),
                ..Options::default()
            },
            "d\n",
        ),
        (
            Options {
                tail: Some(3),
                ..Options::default()
            },
            "b\ncd\n",
        ),
        (
            Options {
                tail: Some(0),
                ..Options::default()
            },
            "",
        ),
        (
            Options {
                limit: Some(3),
                ..Options::default()
            },
            "a\nb",
        ),
        (
            Options {
                tail: Some(1),
                timestamps: true,
                ..Options::default()
            },
            "2026-11-20T11:00:03Z d\n",
        ),
    ];
    for (options, want) in cases {
        assert_eq!(all(dir.path(), options.clone()).await, want, "{options:?}");
    }
}

#[tokio::test]
async fn reads_across_rotated_files() {
    let dir = tempfile::tempdir().expect("dir");
    write(
        dir.path(),
        "0.log.20261120-110000",
        &[("stdout", "F one"), ("stdout", "F two")],
    );
    write(dir.path(), "0.log", &[("stdout", "F three")]);
    write(dir.path(), "1.log", &[("stdout", "F other")]);
    assert_eq!(all(dir.path(), Options::default()).await, "one\ntwo\nthree\n");
    assert_eq!(
        all(
            dir.path(),
            Options {
                tail: Some(2),
                ..Options::default()
            }
        )
        .await,
        "two\nthree\n"
    );
    assert_eq!(
        all(
            dir.path(),
            Options {
                tail: Some(9),
                ..Options::default()
            }
        )
        .await,
        "one\ntwo\nthree\n"
    );
}

#[tokio::test]
async fn a_log_that_is_not_there_is_empty() {
    let dir = tempfile::tempdir().expect("dir");
    assert_eq!(all(dir.path(), Options::default()).await, "");
}

#[tokio::test]
async fn follows_through_rotation_until_the_container_ends() {
    let dir = tempfile::tempdir().expect("dir");
    write(dir.path(), "0.log", &[("stdout", "F one")]);
    let running = Arc::new(AtomicBool::new(true));
    let runs = running.clone();
    let options = Options {
        follow: true,
        ..Options::default()
    };
    let mut followed = stream(dir.path().to_owned(), 0, options, move || runs.load(Ordering::SeqCst));
    let next = async |followed: &mut BoxStream<'static, io::Result<Bytes>>| {
        followed
            .next()
            .await
            .map(|chunk| String::from_utf8(chunk.expect("reads").to_vec()).expect("text"))
    };
    assert_eq!(next(&mut followed).await.as_deref(), Some("one\n"));
    write(dir.path(), "0.log", &[("stdout", "F two")]);
    assert_eq!(next(&mut followed).await.as_deref(), Some("two\n"));
    write(dir.path(), "0.log", &[("stdout", "F late")]);
    fs::rename(dir.path().join("0.log"), dir.path().join("0.log.20261120-110000")).expect("renames");
    write(dir.path(), "0.log", &[("stdout", "F three")]);
    assert_eq!(next(&mut followed).await.as_deref(), Some("late\n"));
    assert_eq!(next(&mut followed).await.as_deref(), Some("three\n"));
    running.store(false, Ordering::SeqCst);
    assert_eq!(next(&mut followed).await, None);
}

#[test]
fn finds_the_tail_of_files_longer_than_a_block() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("x");
    let line = "x".repeat(999) + "\n";
    fs::write(&path, line.repeat(500)).expect("writes");
    let mut file = File::open(&path).expect("opens");
    for lines in [1, 65, 66, 499, 500] {
        assert_eq!(
            tail_offset(&mut file, lines).expect("reads"),
            ((500 - lines) * 1000, lines)
        );
    }
    assert_eq!(tail_offset(&mut file, 501).expect("reads"), (0, 500));
}
