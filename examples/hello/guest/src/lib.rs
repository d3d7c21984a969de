//! A small HTTP service for Wherry: a WebAssembly component that answers `wasi:http` requests.
//!
//! - `GET /` greets, in the words of the environment variable `GREETING`, and says which pod answered.
//! - `GET /healthz` says that the service is ready.
//! - `GET /private` wants the token from the environment variable `TOKEN` as `Authorization: Bearer …`.
//!
//! It has no server and no `main`: the host listens, and calls [`Guest::handle`] in a fresh instance for each request.
//! What it prints is in `kubectl logs`.

use std::env;

use wasip2::{
    exports::http::incoming_handler::Guest,
    http::types::{Fields, IncomingRequest, Method, OutgoingBody, OutgoingResponse, ResponseOutparam},
};

wasip2::http::proxy::export!(Hello);

struct Hello;

impl Guest for Hello {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_default();
        let path = path.split('?').next().unwrap_or_default();
        let (status, text) = answer(&request, path);
        if path != "/healthz" {
            println!("{} {path} {status}", name(&request.method()));
        }
        respond(out, status, &text);
    }
}

/// What to answer: a status and a text.
fn answer(request: &IncomingRequest, path: &str) -> (u16, String) {
    match (request.method(), path) {
        (Method::Get, "/") => (200, greeting()),
        (Method::Get, "/healthz") => (200, "ok\n".to_owned()),
        (Method::Get, "/private") if authorized(request) => (200, "you know the token\n".to_owned()),
        (Method::Get, "/private") => (401, "the token is missing or wrong\n".to_owned()),
        (Method::Get, _) => (404, format!("there is no {path} here\n")),
        _ => (405, "only GET is understood\n".to_owned()),
    }
}

fn greeting() -> String {
    let greeting = env::var("GREETING").unwrap_or_else(|_| "Hello".to_owned());
    match env::var("POD_NAME") {
        Ok(pod) => format!("{greeting} from {pod}\n"),
        Err(_) => format!("{greeting}\n"),
    }
}

fn authorized(request: &IncomingRequest) -> bool {
    let Ok(token) = env::var("TOKEN") else { return false };
    let wanted = format!("Bearer {token}");
    request.headers().get("authorization").iter().any(|given| same(given, wanted.as_bytes()))
}

/// Compares in a time that does not depend on where the two differ.
fn same(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len() && left.iter().zip(right).fold(0, |differs, (l, r)| differs | (l ^ r)) == 0
}

fn respond(out: ResponseOutparam, status: u16, text: &str) {
    let headers = Fields::new();
    headers.append("content-type", b"text/plain; charset=utf-8").expect("a valid header");
    let response = OutgoingResponse::new(headers);
    response.set_status_code(status).expect("a valid status");
    let body = response.body().expect("taken once");
    ResponseOutparam::set(out, Ok(response));
    // The client may be gone by now; then there is nothing left to do.
    if let Ok(stream) = body.write() {
        stream.blocking_write_and_flush(text.as_bytes()).ok();
    }
    OutgoingBody::finish(body, None).ok();
}

fn name(method: &Method) -> &str {
    match method {
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Delete => "DELETE",
        Method::Connect => "CONNECT",
        Method::Options => "OPTIONS",
        Method::Trace => "TRACE",
        Method::Patch => "PATCH",
        Method::Other(name) => name,
    }
}
