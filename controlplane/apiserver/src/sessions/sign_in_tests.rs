use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use super::*;
use crate::authn::oidc::tests::{PACE, Provider, Signer, believing, until_taken};
use crate::resources::testing::now;

fn pending() -> Pending {
    Pending {
        state: "the-state".to_owned(),
        nonce: "the-nonce".to_owned(),
        verifier: "the-verifier".to_owned(),
        issuer: "https://issuer.example".to_owned(),
        ends: "2026-01-01T12:15:00Z".parse().expect("a time"),
    }
}

fn back(state: &str, iss: Value) -> Result<(), String> {
    let back = Back::read(&json!({"code": "c", "state": state, "iss": iss})).expect("it is whole");
    back.check(&pending())
}

#[test]
fn only_what_was_begun_here_comes_back() {
    assert_eq!(back("the-state", json!(null)), Ok(()));
    assert_eq!(back("the-state", json!("https://issuer.example")), Ok(()));
    assert!(
        back("another", json!(null))
            .expect_err("another sign-in")
            .contains("another sign-in")
    );
    assert!(back("", json!(null)).is_err());
    let mixed = back("the-state", json!("https://evil.example")).expect_err("another issuer");
    assert!(mixed.contains("another issuer"), "{mixed}");
    assert_eq!(Back::read(&json!({"code": "c"})), None, "that begins one");
    let long = "x".repeat(MAX_CODE + 1);
    assert_eq!(Back::read(&json!({"code": long, "state": "s"})), None);
}

fn token(claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!(
        "{}.{}.{}",
        part(&json!({"alg": "ES256"})),
        part(claims),
        URL_SAFE_NO_PAD.encode("signature")
    )
}

#[test]
fn a_token_answers_the_nonce_that_was_sent() {
    let claims_of = |nonce: &str, wanted: Option<&str>| {
        let token = token(&json!({"iss": "i", "sub": "ann", "exp": 1_767_268_800, "nonce": nonce}));
        claims(&token, wanted).map(|(subject, ..)| subject)
    };
    assert_eq!(claims_of("n", Some("n")), Ok("ann".to_owned()));
    assert!(
        claims_of("m", Some("n"))
            .expect_err("another")
            .contains("another sign-in")
    );
    assert_eq!(claims_of("m", None), Ok("ann".to_owned()), "a renewal sends none");
    let without = token(&json!({"iss": "i", "exp": 1}));
    assert!(claims(&without, None).expect_err("nobody").contains("names nobody"));
    assert!(claims("junk", None).is_err());
}

fn metadata(change: impl FnOnce(&mut Value)) -> Metadata {
    let mut said = json!({"issuer": "https://issuer.example", "authorization_endpoint": "https://issuer.example/auth",
        "token_endpoint": "https://issuer.example/token"});
    change(&mut said);
    serde_json::from_value(said).expect("metadata")
}

#[test]
fn an_issuer_must_be_who_it_is_and_speak_tls() {
    let source = Source {
        issuer: "https://issuer.example".to_owned(),
        discovery: None,
        authorities: String::new(),
    };
    assert_eq!(metadata(|_| ()).check(&source), Ok(()));
    assert!(
        metadata(|m| m["issuer"] = json!("https://evil.example"))
            .check(&source)
            .is_err()
    );
    assert!(
        metadata(|m| m["token_endpoint"] = json!("http://issuer.example/token"))
            .check(&source)
            .is_err()
    );
}

#[test]
fn the_secret_goes_the_way_that_the_issuer_takes_it() {
    let of = |methods: Value| metadata(|m| m["token_endpoint_auth_methods_supported"] = methods).auth_type();
    assert!(matches!(of(json!([])), AuthType::BasicAuth));
    assert!(matches!(
        of(json!(["client_secret_post", "client_secret_basic"])),
        AuthType::BasicAuth
    ));
    assert!(matches!(of(json!(["client_secret_post"])), AuthType::RequestBody));
    assert_eq!(format!("{:?}", Secret("hidden".to_owned())), "…");
}

#[test]
fn what_was_sealed_for_one_cookie_is_nothing_in_another() {
    let sessions = super::super::Sessions::new(b"secret");
    let sealed = sessions.close(super::super::PENDING, &pending()).expect("sealed");
    assert_eq!(
        sessions.unseal::<Pending>(super::super::PENDING, &sealed),
        Some(pending())
    );
    assert_eq!(sessions.unseal::<Pending>(super::super::REFRESH, &sealed), None);
}

/// An issuer, and a sign-in at it whose keys are known.
async fn at_an_issuer(secret: Option<&str>) -> (Provider, Signer, SignIn) {
    let signer = Signer::ec();
    let provider = Provider::new(vec![signer.jwk("e")]).await;
    let outside = Arc::new(believing(&[provider.jwt(|_| ())], PACE));
    until_taken(&outside, &signer.token("e", &provider.claims(|_| ()))).await;
    let config = Config {
        issuer: None,
        client_id: "me".to_owned(),
        client_secret: secret.map(|secret| Secret(secret.to_owned())),
        redirect_url: "https://here.example/ui/".to_owned(),
        scopes: vec!["openid".to_owned(), "email".to_owned()],
    };
    (provider, signer, SignIn::new(config, outside))
}

fn give(provider: &Provider, signer: &Signer, refresh: Option<&str>, change: impl FnOnce(&mut Value)) {
    let mut answer = json!({"access_token": "a", "token_type": "Bearer",
        "id_token": signer.token("e", &provider.claims(change))});
    if let Some(refresh) = refresh {
        answer["refresh_token"] = json!(refresh);
    }
    *provider.served.gives.lock() = answer;
}

fn came_back(pending: &Pending) -> Back {
    Back {
        code: "the-code".to_owned(),
        state: pending.state.clone(),
        issuer: None,
    }
}

#[tokio::test]
async fn a_code_becomes_a_session_that_is_renewed() {
    let (provider, signer, sign_in) = at_an_issuer(None).await;
    let (url, pending) = sign_in.begin(now()).await.expect("a way there");
    let url = oauth2::url::Url::parse(&url).expect("an address");
    let said = |name: &str| {
        url.query_pairs()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
    };
    assert!(url.as_str().starts_with(&format!("{}/auth?", provider.url)));
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, pending.verifier.as_bytes());
    assert_eq!(said("code_challenge"), Some(URL_SAFE_NO_PAD.encode(digest)));
    assert_eq!(said("code_challenge_method").as_deref(), Some("S256"));
    assert_eq!(
        (said("state"), said("nonce")),
        (Some(pending.state.clone()), Some(pending.nonce.clone()))
    );
    assert_eq!(said("redirect_uri").as_deref(), Some("https://here.example/ui/"));
    assert_eq!(said("scope").as_deref(), Some("openid email"));

    give(&provider, &signer, Some("r1"), |claims| {
        claims["nonce"] = json!(pending.nonce)
    });
    let given = sign_in.finish(&pending, &came_back(&pending)).await.expect("signed in");
    assert_eq!((given.subject.as_str(), given.refresh.as_deref()), ("jane", Some("r1")));
    let sent = provider.served.sent.lock().last().cloned().unwrap_or_default();
    for part in [
        "grant_type=authorization_code",
        "code=the-code",
        &format!("code_verifier={}", pending.verifier),
        "client_id=me",
    ] {
        assert!(sent.contains(part), "{part} is not in {sent}");
    }

    let refresh = Refresh {
        token: "r1".to_owned(),
        subject: given.subject,
        issuer: given.issuer,
        ends: now(),
    };
    give(&provider, &signer, None, |_| ());
    let renewed = sign_in.renew(&refresh).await.expect("renewed");
    assert_eq!(
        renewed.refresh.as_deref(),
        Some("r1"),
        "what is not replaced goes on being good"
    );
    give(&provider, &signer, Some("r2"), |claims| claims["sub"] = json!("eve"));
    let why = sign_in
        .renew(&refresh)
        .await
        .map(|given| given.subject)
        .expect_err("somebody else's");
    assert_eq!((why.code, why.message.contains("somebody else")), (401, true));
    let end = sign_in.end().await.expect("an address");
    assert_eq!(
        end,
        format!(
            "{}/logout?a=b&client_id=me&post_logout_redirect_uri=https%3A%2F%2Fhere.example%2Fui%2F",
            provider.url
        )
    );
}

#[tokio::test]
async fn what_the_issuer_gives_must_be_an_answer_that_is_believed() {
    let (provider, signer, sign_in) = at_an_issuer(Some("hidden")).await;
    let (_, pending) = sign_in.begin(now()).await.expect("a way there");
    let refused = async |words: &str| {
        let given = sign_in.finish(&pending, &came_back(&pending)).await;
        let status = given.map(|given| given.subject).expect_err(words);
        assert!(status.message.contains(words), "{}", status.message);
        status.code
    };
    give(&provider, &signer, None, |claims| claims["nonce"] = json!("another"));
    assert_eq!(refused("answers another sign-in").await, 401);
    let nonce = pending.nonce.clone();
    give(&provider, &signer, None, |claims| {
        claims["nonce"] = json!(nonce);
        claims["aud"] = json!("somebody");
    });
    assert_eq!(refused("not one that this cluster believes").await, 401);
    give(&provider, &Signer::ec(), None, |claims| claims["nonce"] = json!(nonce));
    assert_eq!(
        refused("not one that this cluster believes").await,
        401,
        "signed by another key"
    );
    *provider.served.gives.lock() = json!({"access_token": "a", "token_type": "Bearer"});
    assert_eq!(refused("gave no ID token").await, 401);
    *provider.served.gives.lock() = json!({"error": "invalid_grant", "error_description": "used before"});
    assert_eq!(refused("used before").await, 401);
    let sent = provider.served.sent.lock().concat();
    assert!(!sent.contains("hidden"), "the secret goes in the header: {sent}");
}
