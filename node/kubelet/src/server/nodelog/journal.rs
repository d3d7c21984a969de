//! Services' lines: from the journal where the service writes there, else from the file that bears its name.
//!
//! The journal has no other reader than systemd's own program. It is given words that have been checked, its output goes out
//! as it comes, and it ends with the request or after half a minute.

use std::{path::Path, process::Stdio, time::Duration};

use axum::{
    body::Body,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures::{StreamExt, stream};
use jiff::Timestamp;
use tokio::{process::Command, time::timeout};
use tokio_util::io::ReaderStream;

use super::{files, query::Options};

const PROGRAM: &str = "journalctl";
const PATIENCE: Duration = Duration::from_secs(30);
/// For the question whether a service writes to the journal at all.
const LOOK: Duration = Duration::from_secs(5);
/// The unit in which this kubelet runs, where it is a service.
const OWN_UNIT: &str = "wherry";
/// What clients know its parts as.
const PARTS: [&str; 2] = ["kubelet", "kube-proxy"];

pub(super) async fn serve(root: &Path, services: Vec<String>, options: Options) -> Response {
    let (mut journalled, mut elsewhere) = (Vec::new(), Vec::new());
    for service in services {
        match is_journalled(&service).await {
            true => journalled.push(service),
            false => elsewhere.push(service),
        }
    }
    let mut parts = Vec::new();
    if !journalled.is_empty() {
        parts.push(from_journal(&journalled, &options));
    }
    if !elsewhere.is_empty() && options != Options::default() {
        let names = elsewhere.join(" ");
        let note = format!(
            "\noptions present and query resolved to log files for [{names}]\ntry without specifying options\n"
        );
        parts.push(Body::from(note));
    } else {
        for service in &elsewhere {
            parts.push(from_file(root, service).await);
        }
    }
    let text = stream::iter(parts).flat_map(Body::into_data_stream);
    let mut response = Body::from_stream(text).into_response();
    let media = HeaderValue::from_static("text/plain;charset=UTF-8");
    response.headers_mut().insert(header::CONTENT_TYPE, media);
    response
}

/// The units whose lines a service's are.
fn units(service: &str) -> Vec<String> {
    let own = PARTS.contains(&service).then_some(OWN_UNIT);
    [service]
        .into_iter()
        .chain(own)
        .map(|unit| format!("--unit={unit}"))
        .collect()
}

/// The words after the program's name. Times are UTC, as it is told to show them.
fn words(services: &[String], options: &Options) -> Vec<String> {
    let at = |time: Timestamp| time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string();
    let mut words: Vec<String> = ["--utc", "--no-pager", "--output=short-precise"]
        .map(str::to_owned)
        .into();
    words.extend(options.since.map(|since| format!("--since={}", at(since))));
    words.extend(options.until.map(|until| format!("--until={}", at(until))));
    words.extend(options.tail.map(|tail| format!("--lines={tail}")));
    words.extend(services.iter().flat_map(|service| units(service)));
    if !options.pattern.is_empty() {
        words.push(format!("--grep={}", options.pattern));
        words.push("--case-sensitive=false".to_owned());
    }
    words.push(format!("--boot={}", options.boot.unwrap_or_default()));
    words
}

async fn is_journalled(service: &str) -> bool {
    let mut command = Command::new(PROGRAM);
    command
        .args(["--no-pager", "--lines=1", "--output=cat", "--quiet"])
        .args(units(service));
    command.stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    // Without the program, or when it hangs, there is no journal.
    let said = timeout(LOOK, command.output()).await;
    said.is_ok_and(|said| said.is_ok_and(|said| said.status.success() && !said.stdout.is_empty()))
}

fn from_journal(services: &[String], options: &Options) -> Body {
    let mut command = Command::new(PROGRAM);
    command.args(words(services, options)).kill_on_drop(true);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let Ok(mut child) = command.spawn() else {
        return Body::from("\nerror: journal output not available\n");
    };
    let Some(lines) = child.stdout.take() else {
        return Body::empty();
    };
    // The program goes with the last of its lines.
    let lines = ReaderStream::new(lines).map(move |line| {
        let _ = &child;
        line
    });
    Body::from_stream(lines.take_until(tokio::time::sleep(PATIENCE)))
}

/// From the first of Kubernetes' usual places that there is.
async fn from_file(root: &Path, service: &str) -> Body {
    let places = [
        service.to_owned(),
        format!("{service}.log"),
        format!("{service}/{service}.log"),
    ];
    for place in places {
        if let Some(file) = files::open(root, &place).await {
            return Body::from_stream(ReaderStream::new(file));
        }
    }
    Body::from(Bytes::from(format!("\nlog not found for {service}\n")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_becomes_words_of_the_journals_reader() {
        let options = Options {
            since: Some("2026-01-01T00:00:00Z".parse().expect("a time")),
            tail: Some(5),
            boot: Some(-1),
            pattern: "-x y".to_owned(),
            ..Options::default()
        };
        assert_eq!(
            words(&["kubelet".to_owned(), "ssh".to_owned()], &options),
            [
                "--utc",
                "--no-pager",
                "--output=short-precise",
                "--since=2026-01-01 00:00:00 UTC",
                "--lines=5",
                "--unit=kubelet",
                "--unit=wherry",
                "--unit=ssh",
                "--grep=-x y",
                "--case-sensitive=false",
                "--boot=-1",
            ]
        );
    }
}
