use proto::v1;
use tonic::Code;

use crate::{Served, image};

fn status(name: &str) -> v1::ImageStatusRequest {
    v1::ImageStatusRequest {
        image: Some(image(name)),
        verbose: true,
    }
}

#[tokio::test]
async fn an_image_is_known_by_every_name_that_it_has() {
    let mut served = Served::start().await;
    let id = served.pull("registry/hello:1").await;
    assert_eq!(
        served.pull("registry/hello:2").await,
        id,
        "of the fake, as long names are the same image"
    );
    let by_name = served
        .images
        .image_status(status("registry/hello:2"))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(by_name.info["info"], r#"{"content":"Wasm"}"#);
    let by_name = by_name.image.unwrap();
    assert_eq!(
        (by_name.uid.unwrap().value, by_name.size, by_name.repo_tags.len()),
        (1000, 1234, 2)
    );
    let hex = id.strip_prefix("sha256:").unwrap();
    for name in [&*id, hex, &hex[..12]] {
        let told = served.images.image_status(status(name)).await.unwrap().into_inner();
        assert_eq!(told.image.unwrap().id, id, "{name}");
    }
    for absent in ["registry/absent:1", "Upper", &"0".repeat(64)] {
        let told = served.images.image_status(status(absent)).await.unwrap().into_inner();
        assert_eq!(told.image, None, "{absent}");
    }
    let refused = served.images.image_status(status("")).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn images_are_listed_and_removed_with_all_their_names() {
    let mut served = Served::start().await;
    let id = served.pull("registry/hello:1").await;
    served.pull("registry/other/longer:1").await;
    for (name, count) in [(None, 2), (Some("registry/hello:1"), 1), (Some("registry/none:1"), 0)] {
        let filter = name.map(|name| v1::ImageFilter {
            image: Some(image(name)),
        });
        let request = v1::ListImagesRequest { filter: filter.clone() };
        let images = served.images.list_images(request).await.unwrap().into_inner().images;
        assert_eq!(images.len(), count);
        let request = v1::StreamImagesRequest { filter };
        let mut pages = served.images.stream_images(request).await.unwrap().into_inner();
        let page = pages.message().await.unwrap();
        assert_eq!(page.map(|page| page.images).unwrap_or_default(), images);
    }
    for name in ["registry/hello:1", "registry/hello:1", &id, &"0".repeat(64)] {
        let request = v1::RemoveImageRequest {
            image: Some(image(name)),
        };
        served.images.remove_image(request).await.unwrap();
    }
    let told = served.images.image_status(status(&id)).await.unwrap().into_inner();
    assert_eq!(told.image, None);
}

#[tokio::test]
async fn a_pull_takes_credentials_and_says_why_it_failed() {
    let mut served = Served::start().await;
    let request = |name: &str, auth: &str| v1::PullImageRequest {
        image: Some(image(name)),
        auth: Some(v1::AuthConfig {
            auth: auth.to_owned(),
            ..v1::AuthConfig::default()
        }),
        sandbox_config: None,
    };
    served
        .images
        .pull_image(request("registry/hello:1", "dXNlcjpwYXNz"))
        .await
        .unwrap();
    assert_eq!(served.fake.asked(), ["user signs in"]);
    for (request, code, text) in [
        (
            request("registry/hello:1", "?"),
            Code::InvalidArgument,
            "the registry credentials are not",
        ),
        (request("", ""), Code::InvalidArgument, "no image is named"),
        (request("registry/absent:1", ""), Code::Unknown, "manifest unknown"),
    ] {
        let refused = served.images.pull_image(request).await.unwrap_err();
        assert_eq!(refused.code(), code);
        assert!(refused.message().contains(text), "{refused}");
    }
}

#[tokio::test]
async fn the_filesystem_of_images_is_told_with_where_it_is() {
    let mut served = Served::start().await;
    let told = served
        .images
        .image_fs_info(v1::ImageFsInfoRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(told.image_filesystems, told.container_filesystems);
    let [filesystem] = told.image_filesystems.try_into().unwrap();
    assert_eq!(filesystem.fs_id.unwrap().mountpoint, "/images");
    assert_eq!(
        (
            filesystem.used_bytes.unwrap().value,
            filesystem.inodes_used.unwrap().value
        ),
        (99, 3)
    );
    assert!(filesystem.timestamp > 0);
}
