//! get and list: selectors, pages, revisions.

use http::StatusCode;
use serde_json::json;

use super::*;

const MAPS: &str = "/api/v1/namespaces/a/configmaps";

async fn five(f: &Fixture) {
    for name in ["a", "b", "c", "d", "e"] {
        let mut map = config_map(name, json!({}));
        map["metadata"]["labels"] = json!({"name": name});
        assert_eq!(f.post(MAPS, map).await.code, StatusCode::CREATED);
    }
}

#[tokio::test]
async fn lists_are_complete_and_say_their_revision() {
    let f = Fixture::new().await;
    let empty = f.get(MAPS).await;
    assert_eq!(
        (empty.at("/kind"), empty.at("/items")),
        (json!("ConfigMapList"), json!([]))
    );
    five(&f).await;
    f.post("/api/v1/namespaces/b/configmaps", config_map("z", json!({})))
        .await;
    let list = f.get(MAPS).await;
    assert_eq!(list.names(), ["a", "b", "c", "d", "e"]);
    assert!(list.revision().parse::<u64>().is_ok());
    assert_eq!(
        f.get("/api/v1/configmaps").await.names(),
        ["a", "b", "c", "d", "e", "z"]
    );
}

#[tokio::test]
async fn selectors_choose() {
    let f = Fixture::new().await;
    five(&f).await;
    let cases = [
        ("labelSelector=name%20in%20(a,c)", vec!["a", "c"]),
        ("labelSelector=name!=a", vec!["b", "c", "d", "e"]),
        ("labelSelector=!name", vec![]),
        ("fieldSelector=metadata.name%3Dd", vec!["d"]),
        ("fieldSelector=metadata.namespace!%3Da", vec![]),
        ("labelSelector=name%3Da&fieldSelector=metadata.name%3Db", vec![]),
    ];
    for (query, expected) in cases {
        assert_eq!(f.get(&format!("{MAPS}?{query}")).await.names(), expected, "{query}");
    }
    let unknown = f.get(&format!("{MAPS}?fieldSelector=spec.foo%3Da")).await;
    assert_eq!(unknown.code, StatusCode::BAD_REQUEST);
    assert!(
        unknown.message().contains("field label not supported: spec.foo"),
        "{}",
        unknown.message()
    );
    assert_eq!(
        f.get(&format!("{MAPS}?labelSelector=a%20b")).await.code,
        StatusCode::BAD_REQUEST
    );
}

#[tokio::test]
async fn selectors_may_have_thousands_of_terms() {
    let f = Fixture::new().await;
    five(&f).await;
    let terms = |term: &dyn Fn(usize) -> String| (0..5000).map(term).collect::<Vec<_>>().join(",");
    let absent = terms(&|nth| format!("!k{nth}"));
    let values = terms(&|nth| format!("v{nth}"));
    let all = vec!["a", "b", "c", "d", "e"];
    for (selector, expected) in [
        (absent.clone(), all.clone()),
        (format!("{absent},name=c"), vec!["c"]),
        (format!("name%20in%20({values},b,d)"), vec!["b", "d"]),
        (format!("name%20notin%20({values},b,d)"), vec!["a", "c", "e"]),
    ] {
        let list = f.get(&format!("{MAPS}?labelSelector={selector}")).await;
        assert_eq!(list.names(), expected, "{}", &selector[..20]);
    }
    for selector in [format!("{absent},!"), format!("name%20in%20({values}")] {
        let refused = f.get(&format!("{MAPS}?labelSelector={selector}")).await;
        assert_eq!(refused.code, StatusCode::BAD_REQUEST);
        let message = refused.message();
        assert!(message.starts_with("unable to parse requirement: "), "{message:.200}");
    }
}

#[tokio::test]
async fn kinds_have_selectable_fields_of_their_own() {
    let f = Fixture::new().await;
    let pods = "/api/v1/namespaces/a/pods";
    f.post(pods, pod("p")).await;
    f.post(pods, pod("q")).await;
    let binding = json!({"target": {"kind": "Node", "name": "n1"}});
    f.post(&format!("{pods}/p/binding"), binding).await;
    let select = |query: &str| format!("{pods}?fieldSelector={query}");
    assert_eq!(f.get(&select("spec.nodeName%3Dn1")).await.names(), ["p"]);
    assert_eq!(f.get(&select("spec.nodeName%3D")).await.names(), ["q"]);
    assert_eq!(
        f.get(&select("spec.hostNetwork%3Dfalse,status.phase%3DPending"))
            .await
            .names(),
        ["p", "q"]
    );
}

#[tokio::test]
async fn pages_together_are_the_list_at_one_revision() {
    let f = Fixture::new().await;
    five(&f).await;
    let first = f.get(&format!("{MAPS}?limit=2")).await;
    assert_eq!(first.names(), ["a", "b"]);
    assert_eq!(first.at("/metadata/remainingItemCount"), 3);
    // What happens between the pages does not show.
    f.delete(&format!("{MAPS}/d")).await;
    f.config_map("cc", json!({})).await;
    let next = |page: &Answer| {
        let token = page.at("/metadata/continue").as_str().unwrap_or_default().to_owned();
        format!("{MAPS}?limit=2&continue={token}")
    };
    let second = f.get(&next(&first)).await;
    assert_eq!(second.names(), ["c", "d"], "{second:?}");
    assert_eq!(second.at("/metadata/remainingItemCount"), 1);
    let third = f.get(&next(&second)).await;
    assert_eq!(third.names(), ["e"]);
    assert!(third.at("/metadata/continue").is_null());
    assert_eq!(
        [&second, &third].map(Answer::revision),
        [first.revision(), first.revision()]
    );
}

#[tokio::test]
async fn pages_of_a_selection_are_full() {
    let f = Fixture::new().await;
    five(&f).await;
    let first = f
        .get(&format!("{MAPS}?limit=2&labelSelector=name%20notin%20(a,c)"))
        .await;
    assert_eq!(first.names(), ["b", "d"]);
    assert!(first.at("/metadata/remainingItemCount").is_null());
    let token = first.at("/metadata/continue").as_str().unwrap_or_default().to_owned();
    f.config_map("zz", json!({})).await;
    let query = format!("{MAPS}?limit=2&labelSelector=name%20notin%20(a,c)&continue={token}");
    assert_eq!(f.get(&query).await.names(), ["e"]);
}

#[tokio::test]
async fn a_token_outlives_its_revision_only_in_words() {
    let f = Fixture::new().await;
    five(&f).await;
    let first = f.get(&format!("{MAPS}?limit=2")).await;
    let token = first.at("/metadata/continue").as_str().unwrap_or_default().to_owned();
    f.delete(&format!("{MAPS}/c")).await;
    // The cache has moved on, so that only the store could still know.
    f.get(MAPS).await;
    let now = f.backend.revision().await.expect("a revision");
    f.backend.compact(now).await.expect("compacts");
    let gone = f.get(&format!("{MAPS}?limit=2&continue={token}")).await;
    assert_eq!((gone.code, gone.at("/reason")), (StatusCode::GONE, json!("Expired")));
    assert!(gone.message().starts_with("The provided continue parameter is too old"));
    let token = gone.at("/metadata/continue").as_str().unwrap_or_default().to_owned();
    assert_eq!(
        f.get(&format!("{MAPS}?limit=9&continue={token}")).await.names(),
        ["d", "e"]
    );
    assert_eq!(
        f.get(&format!("{MAPS}?continue=junk")).await.code,
        StatusCode::BAD_REQUEST
    );
}

#[tokio::test]
async fn a_revision_can_be_asked_for() {
    let f = Fixture::new().await;
    let first = f.config_map("a", json!({})).await.revision();
    f.config_map("b", json!({})).await;
    let exact = f
        .get(&format!("{MAPS}?resourceVersion={first}&resourceVersionMatch=Exact"))
        .await;
    assert_eq!((exact.names(), exact.revision()), (vec!["a".to_owned()], first.clone()));
    let newer = f
        .get(&format!(
            "{MAPS}?resourceVersion={first}&resourceVersionMatch=NotOlderThan"
        ))
        .await;
    assert_eq!(newer.names(), ["a", "b"]);
    assert_eq!(f.get(&format!("{MAPS}/a?resourceVersion=0")).await.code, StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn a_revision_that_does_not_come_is_a_timeout() {
    let f = Fixture::new().await;
    let answer = f.get(&format!("{MAPS}?resourceVersion=999999")).await;
    assert_eq!(
        (answer.code, answer.at("/reason")),
        (StatusCode::GATEWAY_TIMEOUT, json!("Timeout"))
    );
    assert!(
        answer
            .message()
            .contains("Too large resource version: 999999, current:"),
        "{}",
        answer.message()
    );
    assert_eq!(answer.at("/details/causes/0/reason"), "ResourceVersionTooLarge");
    assert_eq!(answer.headers["retry-after"], "1");
}

#[tokio::test]
async fn a_long_list_goes_out_in_chunks() {
    let f = Fixture::new().await;
    let value = "x".repeat(30_000);
    for n in 0..10 {
        f.config_map(&format!("m{n}"), json!({"k": value})).await;
    }
    let request = Request::get(MAPS).body(Body::empty()).expect("a request");
    let response = handle(f.server.shared.clone(), user("tester"), request).await;
    let frames: Vec<usize> = BodyStream::new(response.into_body())
        .map(|frame| frame.expect("a frame").into_data().expect("data").len())
        .collect()
        .await;
    assert!(
        frames.len() >= 3 && frames.iter().all(|len| *len < 128 * 1024),
        "{frames:?}"
    );
    assert_eq!(f.get(MAPS).await.names().len(), 10);
}
