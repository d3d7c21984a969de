//! Log files and listings of directories, as Go's file server shows them.
//!
//! A path is found first without opening anything, and its real place compared with the root: a link that a pod has put there
//! leads nowhere else, and a pipe or device is never opened.

use std::{
    fs::{self, File},
    io,
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
};

use axum::{
    body::Body,
    http::{StatusCode, header},
    response::{Html, IntoResponse, Response},
};
use rustix::fs::{CWD, FileType, Mode, OFlags};
use tokio::io::{AsyncReadExt, Take};
use tokio_util::io::ReaderStream;

use super::refusal;
use crate::blocking;

/// Entries of a directory that are listed.
const LISTED: usize = 10_000;

/// What a path leads to.
enum Found {
    File(File, u64),
    /// Names, those of directories with a slash at their end.
    Directory(Vec<String>),
}

pub(super) async fn exists(root: &Path, path: &str) -> bool {
    let (root, path) = (root.to_owned(), path.to_owned());
    blocking::run(move || find(&root, &path).is_ok())
        .await
        .unwrap_or_default()
}

/// A file below `root`, as long as it is now.
pub(super) async fn open(root: &Path, path: &str) -> Option<Take<tokio::fs::File>> {
    let (root, path) = (root.to_owned(), path.to_owned());
    match blocking::run(move || find(&root, &path)).await {
        Ok(Ok(Found::File(file, length))) => Some(tokio::fs::File::from_std(file).take(length)),
        _ => None,
    }
}

pub(super) async fn serve(root: &Path, path: &str) -> Response {
    let (under, wanted) = (root.to_owned(), path.to_owned());
    let found = blocking::run(move || find(&under, &wanted)).await;
    let is_directory_path = path.is_empty() || path.ends_with('/');
    match found {
        Ok(Ok(Found::File(file, length))) if !is_directory_path => content(file, length),
        Ok(Ok(Found::Directory(names))) if is_directory_path => listing(&names),
        Ok(Ok(Found::Directory(_))) => moved(path),
        Ok(Err(error)) if error.kind() == io::ErrorKind::PermissionDenied => {
            refusal(StatusCode::FORBIDDEN, "403 Forbidden")
        }
        _ => refusal(StatusCode::NOT_FOUND, "404 page not found"),
    }
}

/// Opens a file or lists a directory below `root`. Blocking.
fn find(root: &Path, path: &str) -> io::Result<Found> {
    let not_found = || io::Error::from(io::ErrorKind::NotFound);
    let relative = Path::new(path.trim_matches('/'));
    let plain = |part| matches!(part, std::path::Component::Normal(_) | std::path::Component::CurDir);
    if !relative.components().all(plain) {
        return Err(not_found());
    }
    let place = rustix::fs::openat(CWD, root.join(relative), OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    if !real(&place)?.starts_with(root.canonicalize()?) {
        return Err(not_found());
    }
    let status = rustix::fs::fstat(&place)?;
    let own = format!("/proc/self/fd/{}", place.as_raw_fd());
    match FileType::from_raw_mode(status.st_mode) {
        FileType::RegularFile => {
            let length = u64::try_from(status.st_size).unwrap_or_default();
            Ok(Found::File(File::open(own)?, length))
        }
        FileType::Directory => Ok(Found::Directory(names(Path::new(&own))?)),
        _ => Err(not_found()),
    }
}

fn real(place: &OwnedFd) -> io::Result<PathBuf> {
    fs::read_link(format!("/proc/self/fd/{}", place.as_raw_fd()))
}

fn names(directory: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory)?.take(LISTED) {
        let entry = entry?;
        let mut name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_dir() {
            name.push('/');
        }
        names.push(name);
    }
    names.sort_unstable();
    Ok(names)
}

/// What the file holds now; what is written meanwhile is not waited for.
fn content(file: File, length: u64) -> Response {
    let reader = tokio::fs::File::from_std(file).take(length);
    let headers = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8".to_owned()),
        (header::CONTENT_LENGTH, length.to_string()),
    ];
    (headers, Body::from_stream(ReaderStream::new(reader))).into_response()
}

fn listing(names: &[String]) -> Response {
    let mut text = "<!doctype html>\n<meta name=\"viewport\" content=\"width=device-width\">\n<pre>\n".to_owned();
    for name in names {
        text += &format!("<a href=\"{}\">{}</a>\n", address(name), escaped(name));
    }
    text += "</pre>\n";
    Html(text).into_response()
}

/// A directory's own address ends with a slash, so that what it lists is found.
fn moved(path: &str) -> Response {
    let name = path.rsplit('/').next().unwrap_or_default();
    (
        StatusCode::MOVED_PERMANENTLY,
        [(header::LOCATION, format!("{}/", address(name)))],
    )
        .into_response()
}

fn address(name: &str) -> String {
    let mut out = String::new();
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => out.push(char::from(byte)),
            other => out += &format!("%{other:02X}"),
        }
    }
    out
}

fn escaped(name: &str) -> String {
    let name = name.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    name.replace('"', "&#34;").replace('\'', "&#39;")
}
