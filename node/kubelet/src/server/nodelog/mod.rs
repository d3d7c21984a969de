//! `/logs/`: the machine's log files below `/var/log`, and the node log query (KEP-2258), which also asks the journal.
//!
//! Nothing outside of `/var/log` is ever read, whatever is linked there ([`files`]). What is asked is decided without a look
//! at the machine ([`query`], pure); the journal is read by `journalctl`, where the machine has it ([`journal`]).

mod files;
mod journal;
mod query;

use std::path::Path;

use axum::{
    extract::{RawQuery, Request},
    http::{Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use query::Asked;

const DIRECTORY: &str = "/var/log";

pub(super) async fn serve(RawQuery(query): RawQuery, request: Request) -> Response {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    let path = request.uri().path();
    // A plus is a plus in a path.
    let path = path.strip_prefix("/logs").unwrap_or(path).replace('+', "%2B");
    let path = super::streams::decode(&path);
    answer(Path::new(DIRECTORY), &path, query.as_deref().unwrap_or_default()).await
}

async fn answer(root: &Path, path: &str, query: &str) -> Response {
    let inside = path.trim_start_matches('/');
    let asked = match query::read(query) {
        Ok(asked) => asked,
        Err(why) => return refusal(StatusCode::BAD_REQUEST, &why),
    };
    if !matches!(asked, Asked::Path) && !inside.is_empty() {
        return refusal(StatusCode::NOT_ACCEPTABLE, "path not allowed in query mode");
    }
    match asked {
        Asked::Path => files::serve(root, path).await,
        Asked::File(file) => match files::exists(root, &file).await {
            true => files::serve(root, &file).await,
            false => refusal(StatusCode::BAD_REQUEST, &query::no_such_file(&file)),
        },
        Asked::Services(services, options) => journal::serve(root, services, options).await,
    }
}

/// As Go's `http.Error` answers.
fn refusal(code: StatusCode, why: &str) -> Response {
    let media = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    (code, media, format!("{why}\n")).into_response()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use http_body_util::BodyExt;

    use super::*;

    async fn get(root: &Path, path: &str, query: &str) -> (u16, String) {
        let response = answer(root, path, query).await;
        let code = response.status().as_u16();
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        (code, String::from_utf8_lossy(&body).into_owned())
    }

    fn logs() -> tempfile::TempDir {
        let outside = tempfile::tempdir().expect("a directory");
        let root = outside.path().join("log");
        std::fs::create_dir_all(root.join("app")).expect("a directory");
        std::fs::write(outside.path().join("secret"), "secret").expect("a file");
        std::fs::write(root.join("syslog"), "one\ntwo\n").expect("a file");
        std::fs::write(root.join("app/app.log"), "app\n").expect("a file");
        std::fs::write(root.join("a<b.log"), "").expect("a file");
        symlink("../secret", root.join("out")).expect("a link");
        symlink(outside.path().join("secret"), root.join("far")).expect("a link");
        symlink(root.join("syslog"), root.join("near")).expect("a link");
        nix::unistd::mkfifo(&root.join("pipe"), nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
        outside
    }

    #[tokio::test]
    async fn files_are_read_and_directories_listed() {
        let outside = logs();
        let root = outside.path().join("log");
        assert_eq!(get(&root, "/syslog", "").await, (200, "one\ntwo\n".to_owned()));
        assert_eq!(get(&root, "/near", "").await, (200, "one\ntwo\n".to_owned()));
        let (code, listed) = get(&root, "/", "").await;
        assert_eq!(code, 200);
        assert!(
            listed.contains("<a href=\"app/\">app/</a>\n<a href=\"far\">far</a>\n"),
            "{listed}"
        );
        assert!(listed.contains("<a href=\"a%3Cb.log\">a&lt;b.log</a>"), "{listed}");
        let moved = answer(&root, "/app", "").await;
        assert_eq!(
            (moved.status().as_u16(), &moved.headers()["location"]),
            (301, &"app/".parse().expect("a header"))
        );
        assert!(get(&root, "/app/", "").await.1.contains("app.log"));
    }

    #[tokio::test]
    async fn nothing_outside_is_read() {
        let outside = logs();
        let root = outside.path().join("log");
        for path in [
            "/out",
            "/far",
            "/../secret",
            "/app/../../secret",
            "/pipe",
            "/none",
            "/syslog/",
            "/\0",
        ] {
            let (code, said) = get(&root, path, "").await;
            assert!(code == 404 && !said.contains("secret"), "{path}: {code} {said}");
        }
    }

    #[tokio::test]
    async fn a_query_names_a_file_or_services() {
        let outside = logs();
        let root = outside.path().join("log");
        assert_eq!(get(&root, "/", "query=/syslog").await, (200, "one\ntwo\n".to_owned()));
        let cases = [
            ("/x", "query=syslog", 406, "path not allowed in query mode\n"),
            (
                "/",
                "query=/none",
                400,
                "query: Invalid value: [\"/none\"]: no such file in /var/log\n",
            ),
            (
                "/",
                "query=/../secret",
                400,
                "query: Invalid value: [\"/../secret\"]: no such file in /var/log\n",
            ),
        ];
        for (path, query, code, said) in cases {
            assert_eq!(get(&root, path, query).await, (code, said.to_owned()), "{query}");
        }
        let (code, said) = get(&root, "/", "query=wherry-e2e-none&query=app").await;
        assert_eq!(
            (code, said.as_str()),
            (200, "\nlog not found for wherry-e2e-none\napp\n")
        );
        let (_, said) = get(&root, "/", "query=app&tailLines=1").await;
        assert_eq!(
            said,
            "\noptions present and query resolved to log files for [app]\ntry without specifying options\n"
        );
    }
}
