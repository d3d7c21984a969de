use std::{
    io::{BufRead, BufReader, Read},
    os::fd::OwnedFd,
};

use super::*;

struct Sample {
    log: Arc<Log>,
    file: tempfile::NamedTempFile,
}

fn sample() -> Sample {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let append = fs_append(file.path());
    Sample {
        log: Log::new(append, Writer::start().expect("a writer")),
        file,
    }
}

fn fs_append(path: &std::path::Path) -> File {
    File::options().append(true).open(path).expect("opened")
}

impl Sample {
    /// The entries without their times, which must parse.
    fn entries(&self) -> Vec<String> {
        self.log.flush();
        let mut text = String::new();
        File::open(self.file.path())
            .and_then(|mut file| file.read_to_string(&mut text))
            .expect("read");
        let lines = text.lines().map(|line| {
            let (time, rest) = line.split_once(' ').expect("a time");
            assert_eq!(time.len(), "2026-11-20T09:30:00.123456789Z".len(), "{time}");
            time.parse::<Timestamp>().expect("a time");
            rest.to_owned()
        });
        lines.collect()
    }
}

#[test]
fn lines_are_written_as_cri_has_them() {
    let sample = sample();
    let mut out = LineBuffer::new(Arc::clone(&sample.log), Stream::Stdout);
    out.write(b"one\ntw");
    out.write(b"o\n\nthree");
    drop(out);
    assert_eq!(
        sample.entries(),
        ["stdout F one", "stdout F two", "stdout F ", "stdout F three"]
    );
}

#[test]
fn instances_do_not_mix_within_a_line() {
    let sample = sample();
    let mut first = LineBuffer::new(Arc::clone(&sample.log), Stream::Stdout);
    let mut second = LineBuffer::new(Arc::clone(&sample.log), Stream::Stderr);
    first.write(b"a");
    second.write(b"b\n");
    first.write(b"a\n");
    assert_eq!(sample.entries(), ["stderr F b", "stdout F aa"]);
}

#[test]
fn long_lines_are_cut_into_partial_entries() {
    for pieces in [vec![LINE * 2 + 5], vec![LINE + 1, LINE + 4], vec![LINE, LINE, 5]] {
        let sample = sample();
        let mut out = LineBuffer::new(Arc::clone(&sample.log), Stream::Stdout);
        for length in &pieces {
            out.write(&vec![b'x'; *length]);
        }
        out.write(b"\n");
        let kinds: Vec<_> = sample
            .entries()
            .iter()
            .map(|entry| (entry[7..8].to_owned(), entry.len() - 9))
            .collect();
        let expected: Vec<_> = [("P", LINE), ("P", LINE), ("F", 5)]
            .map(|(kind, length)| (kind.to_owned(), length))
            .into();
        assert_eq!(kinds, expected, "{pieces:?}");
    }
}

#[test]
fn a_reopened_log_goes_to_the_new_file() {
    let sample = sample();
    sample.log.host("before");
    let next = tempfile::NamedTempFile::new().expect("a file");
    sample.log.reopen(fs_append(next.path()));
    sample.log.host("after");
    assert_eq!(sample.entries(), ["stderr F wherry: before"]);
    let text = std::fs::read_to_string(next.path()).expect("read");
    assert!(text.ends_with("stderr F wherry: after\n"), "{text}");
}

#[test]
fn what_cannot_be_kept_is_dropped_and_counted() {
    let sample = sample();
    let line = vec![b'x'; LINE];
    // As if the writer knew already, and did not get to it.
    sample.log.state.lock().announced = true;
    for _ in 0..100 {
        sample.log.line(Stream::Stdout, &line);
    }
    let kept = sample.entries().len();
    assert!((1..100).contains(&kept), "{kept}");
    sample.log.host("room again");
    let entries = sample.entries();
    let dropped = format!("stderr F wherry: {} log lines were dropped here", 100 - kept);
    assert!(entries[kept].starts_with(&dropped), "{}", entries[kept]);
    assert_eq!(entries[kept + 1], "stderr F wherry: room again");
}

#[test]
fn the_writer_writes_by_itself() {
    let (read, write): (OwnedFd, OwnedFd) = rustix::pipe::pipe().expect("a pipe");
    let log = Log::new(write.into(), Writer::start().expect("a writer"));
    log.host("hello");
    let mut line = String::new();
    BufReader::new(File::from(read)).read_line(&mut line).expect("read");
    assert!(line.ends_with(" stderr F wherry: hello\n"), "{line}");
}
