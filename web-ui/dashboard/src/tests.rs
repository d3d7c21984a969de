use http::Request;
use http::header::ACCEPT_ENCODING;

use super::*;

fn ask(method: Method, path: &str, headers: &[(HeaderName, &str)]) -> Option<Response<Bytes>> {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(name, *value);
    }
    let (parts, ()) = request.body(()).expect("a request").into_parts();
    answer(&parts)
}

/// As a build holds where there is no Node.js.
static NOTHING: Dir<'_> = Dir::new("", &[]);

#[test]
fn a_build_without_files_says_how_to_add_them() {
    let site = Site::new(&NOTHING);
    assert!(!site.is_built());
    let asked = |path: &str| {
        let (parts, ()) = Request::get(path).body(()).expect("a request").into_parts();
        site.answer(&parts).expect("an answer")
    };
    let page = asked("/ui/");
    assert_eq!((page.status(), header(&page, &CONTENT_TYPE)), (StatusCode::OK, HTML));
    assert!(header(&page, &CONTENT_SECURITY_POLICY).contains("frame-ancestors 'none'"));
    // Once there is a dashboard, nobody has the page that says there is none.
    assert_eq!((header(&page, &CACHE_CONTROL), header(&page, &ETAG)), ("no-cache", ""));
    let text = String::from_utf8(page.body().to_vec()).expect("text");
    for said in ["has no dashboard", "Node.js 20.19", "make build", "npm run build"] {
        assert!(text.contains(said), "{text}");
    }
    assert_eq!(asked("/ui/assets/index.js").status(), StatusCode::NOT_FOUND);
    assert_eq!(header(&asked("/ui"), &LOCATION), "/ui/");
}

fn get(path: &str, headers: &[(HeaderName, &str)]) -> Response<Bytes> {
    ask(Method::GET, path, headers).expect("an answer")
}

fn header<'a>(response: &'a Response<Bytes>, name: &HeaderName) -> &'a str {
    response
        .headers()
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

#[test]
fn other_paths_are_not_the_dashboards() {
    for path in ["/", "/api", "/uis", "/uix/", "/apis/ui.wherry.dev/v1"] {
        assert!(ask(Method::GET, path, &[]).is_none(), "{path}");
    }
}

#[test]
fn the_page_is_guarded_whether_or_not_it_is_built() {
    let page = get("/ui/", &[]);
    assert_eq!(page.status(), StatusCode::OK);
    assert_eq!(header(&page, &CONTENT_TYPE), HTML);
    assert_eq!(header(&page, &X_CONTENT_TYPE_OPTIONS), "nosniff");
    assert_eq!(header(&page, &CACHE_CONTROL), "no-cache");
    let policy = header(&page, &CONTENT_SECURITY_POLICY);
    assert!(policy.contains("default-src 'none'; script-src 'self';"), "{policy}");
    assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
    let text = String::from_utf8(page.body().to_vec()).expect("text");
    assert_eq!(text.contains("id=\"app\""), is_built(), "{text}");
    assert_eq!(text.contains("npm run build"), !is_built(), "{text}");
    let scripts = text.matches("<script").count();
    assert_eq!(
        scripts,
        text.matches("<script type=\"module\" crossorigin src=").count(),
        "no script within the page: {text}"
    );
}

#[test]
fn what_was_read_before_is_not_sent_again() {
    let first = get("/ui/", &[]);
    let tag = header(&first, &ETAG);
    if !is_built() {
        assert_eq!(tag, "");
        return;
    }
    let again = get("/ui/", &[(IF_NONE_MATCH, &format!("\"x\", W/{tag}"))]);
    assert_eq!((again.status(), again.body().len()), (StatusCode::NOT_MODIFIED, 0));
    assert_eq!(get("/ui/", &[(IF_NONE_MATCH, "\"x\"")]).status(), StatusCode::OK);
}

#[test]
fn assets_are_compressed_and_kept() {
    let found = FILES.get_dir("assets").into_iter().flat_map(Dir::files);
    let mut names = found.filter_map(|file| file.path().to_str());
    let Some(name) = names.find(|name| name.starts_with("assets/index") && name.ends_with(".js")) else {
        assert!(!is_built());
        return;
    };
    let path = format!("/ui/{name}");
    let (plain, small) = (get(&path, &[]), get(&path, &[(ACCEPT_ENCODING, "gzip, br")]));
    assert_eq!(header(&small, &CONTENT_ENCODING), "br");
    assert_eq!(header(&small, &CONTENT_TYPE), "text/javascript; charset=utf-8");
    assert_eq!(header(&small, &CACHE_CONTROL), "public, max-age=31536000, immutable");
    assert_ne!(header(&small, &ETAG), header(&plain, &ETAG));
    assert!(small.body().len() * 2 < plain.body().len());
    assert_eq!(get(&format!("{path}.br"), &[]).status(), StatusCode::NOT_FOUND);
}

#[test]
fn nothing_else_is_there() {
    for path in [
        "/ui/nothing.js",
        "/ui/.gitkeep",
        "/ui/../Cargo.toml",
        "/ui/assets/../../Cargo.toml",
        "/ui//etc/passwd",
    ] {
        assert_eq!(get(path, &[]).status(), StatusCode::NOT_FOUND, "{path}");
    }
    assert_eq!(header(&get("/ui", &[]), &LOCATION), "/ui/");
    let refused = ask(Method::POST, "/ui/", &[]).expect("an answer");
    assert_eq!(refused.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(ask(Method::HEAD, "/ui/", &[]).map(|head| head.body().len()), Some(0));
}
