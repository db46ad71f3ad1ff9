//! What browsers are given: pages, scripts, their caching and their policy.

use super::*;
use axum::body::Body;
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;

struct Got {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Got {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

async fn get_from(router: Router, path: &str, headers: &[(&str, &str)]) -> Got {
    let mut request = Request::builder().uri(path).header("host", "live.example");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    Got {
        status: parts.status,
        headers: parts.headers,
        body: body.collect().await.unwrap().to_bytes().to_vec(),
    }
}

async fn public_get(path: &str, headers: &[(&str, &str)]) -> Got {
    get_from(public(&FrameAncestors::default()), path, headers).await
}

#[tokio::test]
async fn the_page_of_a_room_is_one_page_for_every_room() {
    let lobby = public_get("/", &[]).await;
    let room = public_get("/rooms/final", &[]).await;
    assert_eq!((lobby.status, room.status), (StatusCode::OK, StatusCode::OK));
    assert_eq!(lobby.body, room.body);
    assert_eq!(room.header("content-type"), "text/html; charset=utf-8");
    assert_eq!(room.header("cache-control"), "no-cache");
}

#[tokio::test]
async fn pages_allow_nothing_inline_and_nothing_from_elsewhere() {
    for (router, path) in [
        (public(&FrameAncestors::default()), "/"),
        (public(&FrameAncestors::default()), "/overlay/final"),
        (desk(), "/"),
    ] {
        let page = get_from(router, path, &[]).await;
        let policy = page.header("content-security-policy");
        assert!(
            policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"),
            "{path}: {policy}"
        );
        assert!(!policy.contains("unsafe") && !policy.contains("script-src *"), "{path}: {policy}");
        assert_eq!(page.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(page.header("referrer-policy"), "no-referrer", "{path}");
    }
}

#[tokio::test]
async fn what_is_under_the_revision_may_be_kept_for_ever() {
    let file = public_get(&format!("/assets/{}/pages/room.js", FILES.revision), &[]).await;
    assert_eq!(file.status, StatusCode::OK);
    assert_eq!(file.header("cache-control"), FOR_EVER);
    assert_eq!(file.header("content-type"), "text/javascript; charset=utf-8");
}

#[tokio::test]
async fn a_page_of_another_build_finds_its_scripts_and_keeps_them_for_a_moment_only() {
    let file = public_get("/assets/0123456789ab/stage.js", &[]).await;
    assert_eq!((file.status, file.header("cache-control")), (StatusCode::OK, A_MOMENT));
}

#[tokio::test]
async fn any_site_may_include_the_scripts() {
    for name in script_names() {
        let script = public_get(&format!("/{name}"), &[("origin", "https://club.example")]).await;
        assert_eq!(script.status, StatusCode::OK, "{name}");
        assert_eq!(script.header("access-control-allow-origin"), "*", "{name}");
        assert_eq!(script.header("cross-origin-resource-policy"), "cross-origin", "{name}");
    }
}

#[tokio::test]
async fn an_answer_is_compressed_and_its_tag_saves_the_next_one() {
    let plain = public_get("/stage.js", &[]).await;
    for coding in ["gzip", "br"] {
        let packed = public_get("/stage.js", &[("accept-encoding", coding)]).await;
        assert_eq!(packed.header("content-encoding"), coding);
        assert_eq!(packed.header("vary"), "Accept-Encoding");
        assert!(packed.body.len() < plain.body.len() / 2, "{coding}");
        let tag = packed.header("etag").to_owned();
        let again = public_get("/stage.js", &[("accept-encoding", coding), ("if-none-match", &tag)]).await;
        assert_eq!((again.status, again.body.len()), (StatusCode::NOT_MODIFIED, 0));
        let other = public_get("/stage.js", &[("if-none-match", &tag)]).await;
        assert_eq!(other.status, StatusCode::OK, "the tag of one coding is not that of another");
    }
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    for path in
        ["/assets/x/../src/lib.rs", "/assets/x/Cargo.toml", "/assets/x/pages/room.html", "/uproar.jsx"]
    {
        assert_eq!(public_get(path, &[]).await.status, StatusCode::NOT_FOUND, "{path}");
    }
}
