//! `UpdateProduct`: an operator corrects what a source said.

use omnimesh_proto::catalog::v1 as pb;
use prost_types::FieldMask;

use crate::sandbox::{Sandbox, called, cheese, fields, reason};

/// Sets the fields `paths` of product 1 to those of a parmesan.
fn parmesan(paths: &[&str]) -> pb::UpdateProductRequest {
    let product = pb::Product {
        name: "products/1".to_owned(),
        title: "Parmesan".to_owned(),
        manufacturer_id: "7".to_owned(),
        brand: "National".to_owned(),
        category: "categories/cheese".to_owned(),
        package_size: "5 OZ".to_owned(),
        ..Default::default()
    };
    let paths = paths.iter().map(|path| (*path).to_owned()).collect();
    pb::UpdateProductRequest {
        product: Some(product),
        update_mask: Some(FieldMask { paths }),
        ..Default::default()
    }
}

#[tokio::test]
async fn update_product_sets_what_the_mask_names() {
    for sandbox in Sandbox::on_both_engines().await {
        sandbox.import(&[&[cheese("1")]]).await;
        let before = sandbox.get("products/1").await.expect("found");
        let after = sandbox.update(parmesan(&["title", "package_size"])).await.expect("updated");
        assert_eq!(sandbox.get("products/1").await.expect("found"), after);
        assert_ne!(after.etag, before.etag);
        let expect = pb::Product {
            title: "Parmesan".to_owned(),
            package_size: "5 OZ".to_owned(),
            update_time: after.update_time,
            etag: after.etag.clone(),
            ..before.clone()
        };
        assert_eq!(after, expect);
        let rest = sandbox.update(parmesan(&["brand", "manufacturer_id"])).await.expect("updated");
        assert_eq!(
            (&*rest.brand, &*rest.manufacturer_id, &rest.category),
            ("National", "7", &before.category)
        );
        assert_eq!(sandbox.told(3).await, [before, after, rest]);
    }
}

#[tokio::test]
async fn update_product_tells_nothing_where_nothing_changes() {
    for sandbox in Sandbox::on_both_engines().await {
        sandbox.import(&[&[cheese("1")]]).await;
        let first = sandbox.update(parmesan(&["title"])).await.expect("updated");
        assert_eq!(sandbox.update(parmesan(&["title"])).await.expect("updated"), first);
        let second = sandbox.update(parmesan(&["brand"])).await.expect("updated");
        assert_eq!(sandbox.told(3).await[1..], [first, second]);
    }
}

#[tokio::test]
async fn update_product_holds_until_the_source_says_something_new() {
    for sandbox in Sandbox::on_both_engines().await {
        sandbox.import(&[&[cheese("1")]]).await;
        let corrected = sandbox.update(parmesan(&["title"])).await.expect("updated");
        assert_eq!(sandbox.import(&[&[cheese("1")]]).await, (0, 1));
        assert_eq!(sandbox.get("products/1").await.expect("found"), corrected);
        assert_eq!(sandbox.import(&[&[called("GOUDA", cheese("1"))]]).await, (1, 0));
        assert_eq!(sandbox.get("products/1").await.expect("found").title, "GOUDA");
    }
}

#[tokio::test]
async fn update_product_replays_a_request_it_has_answered() {
    for sandbox in Sandbox::on_both_engines().await {
        sandbox.import(&[&[cheese("1")]]).await;
        let request_id = uuid::Uuid::from_u128(1).to_string();
        let request = pb::UpdateProductRequest { request_id: request_id.clone(), ..parmesan(&["title"]) };
        let answer = sandbox.update(request.clone()).await.expect("updated");
        let later = sandbox.update(parmesan(&["brand"])).await.expect("updated");
        assert_eq!(sandbox.update(request).await.expect("replayed"), answer);
        assert_eq!(sandbox.get("products/1").await.expect("found"), later);
        let error = sandbox.update(pb::UpdateProductRequest { request_id, ..parmesan(&["brand"]) }).await;
        let error = error.expect_err("refused");
        assert_eq!(
            (error.code(), reason(&error)),
            (tonic::Code::InvalidArgument, "REQUEST_ID_REUSED".to_owned())
        );
    }
}

#[tokio::test]
async fn update_product_refuses_what_has_changed_meanwhile() {
    for sandbox in Sandbox::on_both_engines().await {
        sandbox.import(&[&[cheese("1")]]).await;
        let etag = sandbox.get("products/1").await.expect("found").etag;
        let mut request = parmesan(&["title"]);
        request.product.as_mut().expect("a product").etag = etag;
        sandbox.update(request.clone()).await.expect("updated");
        let error = sandbox.update(request).await.expect_err("refused");
        assert_eq!((error.code(), reason(&error)), (tonic::Code::Aborted, "ETAG_MISMATCH".to_owned()));
    }
}

#[tokio::test]
async fn update_product_refuses_what_it_cannot_do() {
    for sandbox in Sandbox::on_both_engines().await {
        let error = sandbox.update(parmesan(&["title"])).await.expect_err("absent");
        assert_eq!((error.code(), reason(&error)), (tonic::Code::NotFound, "PRODUCT_NOT_FOUND".to_owned()));
        let control =
            pb::Product { name: "products/1".to_owned(), title: "\u{7}".to_owned(), ..Default::default() };
        for (request, field) in [
            (pb::UpdateProductRequest { product: None, ..parmesan(&["title"]) }, "product.name"),
            (pb::UpdateProductRequest { product: Some(control), ..parmesan(&["title"]) }, "product.title"),
            (parmesan(&[]), "update_mask"),
            (parmesan(&["title", "category"]), "update_mask"),
            (pb::UpdateProductRequest { request_id: "x".to_owned(), ..parmesan(&["title"]) }, "request_id"),
        ] {
            let error = sandbox.update(request).await.expect_err("refused");
            assert_eq!(
                (reason(&error), fields(&error)),
                ("INVALID_REQUEST".to_owned(), vec![field.to_owned()])
            );
        }
    }
}
