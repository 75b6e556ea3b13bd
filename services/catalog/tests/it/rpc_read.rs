//! `GetProduct`, `BatchGetProducts`, `ListProducts`.

use omnimesh_proto::catalog::v1 as pb;

use crate::sandbox::{Sandbox, cheese, fields, reason, within};

#[tokio::test]
async fn get_product_returns_what_was_imported() {
    for sandbox in Sandbox::on_both_engines().await {
        sandbox.import(&[&[cheese("819312")]]).await;
        let found = sandbox.get("products/819312").await.expect("found");
        assert!(
            found.create_time.is_some() && found.create_time == found.update_time && !found.etag.is_empty()
        );
        let expect = pb::Product {
            name: "products/819312".to_owned(),
            sku: "819312".to_owned(),
            title: "SHREDDED CHEESE".to_owned(),
            manufacturer_id: "69".to_owned(),
            brand: "Private".to_owned(),
            category: "categories/grocery.cheese.shredded".to_owned(),
            package_size: "8 OZ".to_owned(),
            create_time: found.create_time,
            update_time: found.update_time,
            etag: found.etag.clone(),
        };
        assert_eq!(found, expect);
    }
}

#[tokio::test]
async fn get_product_refuses_what_is_no_product() {
    for sandbox in Sandbox::on_both_engines().await {
        let error = sandbox.get("819312").await.expect_err("refused");
        assert_eq!((reason(&error), fields(&error)), ("INVALID_REQUEST".to_owned(), vec!["name".to_owned()]));
        let error = sandbox.get("products/819312").await.expect_err("absent");
        assert_eq!((error.code(), reason(&error)), (tonic::Code::NotFound, "PRODUCT_NOT_FOUND".to_owned()));
    }
}

#[tokio::test]
async fn batch_get_products_keeps_the_order_asked_for() {
    for sandbox in Sandbox::on_both_engines().await {
        sandbox.import(&[&["1", "2", "3"].map(cheese)]).await;
        let get = |names: &[&str]| {
            let mut client = sandbox.client.clone();
            let names = names.iter().map(|name| (*name).to_owned()).collect();
            async move { client.batch_get_products(pb::BatchGetProductsRequest { names }).await }
        };
        let names = ["products/3", "products/1", "products/3"];
        let found = get(&names).await.expect("found").into_inner().products;
        assert_eq!(found.into_iter().map(|product| product.name).collect::<Vec<_>>(), names);
        assert!(get(&[]).await.expect("nothing asked").into_inner().products.is_empty());
        let error = get(&["products/1", "products/4"]).await.expect_err("absent");
        assert_eq!((error.code(), reason(&error)), (tonic::Code::NotFound, "PRODUCT_NOT_FOUND".to_owned()));
        assert_eq!(fields(&get(&["products/1", "x"]).await.expect_err("refused")), ["names[1]"]);
        assert_eq!(fields(&get(&["products/1"; 1001]).await.expect_err("refused")), ["names"]);
    }
}

#[tokio::test]
async fn list_products_pages_by_sku() {
    for sandbox in Sandbox::on_both_engines().await {
        let skus: Vec<_> = (100..125).map(|sku| sku.to_string()).collect();
        sandbox.import(&[&skus.iter().rev().map(|sku| cheese(sku)).collect::<Vec<_>>()]).await;
        for order_by in ["", "sku"] {
            let mut request =
                pb::ListProductsRequest { page_size: 7, order_by: order_by.to_owned(), ..Default::default() };
            let mut seen = Vec::new();
            loop {
                let page = sandbox.list(request.clone()).await.expect("listed");
                seen.extend(page.products.into_iter().map(|product| product.sku));
                request.page_token = page.next_page_token;
                if request.page_token.is_empty() {
                    break;
                }
            }
            assert_eq!(seen, skus);
        }
    }
}

#[tokio::test]
async fn list_products_filters_by_brand_category_and_manufacturer() {
    for sandbox in Sandbox::on_both_engines().await {
        let national = pb::ProductImport { brand: "National".to_owned(), ..cheese("2") };
        let other_maker = pb::ProductImport { manufacturer_id: "1 \"A\"".to_owned(), ..cheese("3") };
        let rice =
            pb::ProductImport { brand: "白".to_owned(), ..within(&["食品", "米飯"], cheese("5")) };
        sandbox.import(&[&[cheese("1"), national, other_maker, within(&[], cheese("4")), rice]]).await;
        for (filter, expect) in [
            ("", vec!["1", "2", "3", "4", "5"]),
            ("brand = Private", vec!["1", "3", "4"]),
            ("brand != Private", vec!["2", "5"]),
            ("category = categories/grocery.cheese.shredded", vec!["1", "2", "3"]),
            ("category = categories/grocery.cheese", vec![]),
            ("category = categories/食品.米飯", vec!["5"]),
            ("category != \"categories/grocery.cheese.shredded\"", vec!["4", "5"]),
            ("manufacturer_id = \"1 \\\"A\\\"\"", vec!["3"]),
            ("manufacturer_id = 69 AND brand = Private", vec!["1", "4"]),
        ] {
            let page = sandbox
                .list(pb::ListProductsRequest { filter: filter.to_owned(), ..Default::default() })
                .await;
            let found: Vec<_> =
                page.expect("listed").products.into_iter().map(|product| product.sku).collect();
            assert_eq!(found, expect, "{filter}");
        }
    }
}

#[tokio::test]
async fn list_products_refuses_what_it_cannot_do() {
    let sandbox = Sandbox::on_sqlite().await;
    sandbox.import(&[&["1", "2"].map(cheese)]).await;
    let one =
        sandbox.list(pb::ListProductsRequest { page_size: 1, ..Default::default() }).await.expect("listed");
    let (filter, page_token) = ("brand = Private".to_owned(), one.next_page_token);
    for (request, field) in [
        (pb::ListProductsRequest { page_size: -1, ..Default::default() }, "page_size"),
        (pb::ListProductsRequest { page_token: "x".to_owned(), ..Default::default() }, "page_token"),
        (pb::ListProductsRequest { page_token, filter, ..Default::default() }, "page_token"),
        (pb::ListProductsRequest { filter: "title = x".to_owned(), ..Default::default() }, "filter"),
        (pb::ListProductsRequest { filter: "category = cheese".to_owned(), ..Default::default() }, "filter"),
        (pb::ListProductsRequest { order_by: "title".to_owned(), ..Default::default() }, "order_by"),
    ] {
        let error = sandbox.list(request).await.expect_err("refused");
        assert_eq!((reason(&error), fields(&error)), ("INVALID_REQUEST".to_owned(), vec![field.to_owned()]));
    }
}
