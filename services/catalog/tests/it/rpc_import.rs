//! `ImportProducts`: a source says what products are, as often as it likes.

use omnimesh_proto::catalog::v1 as pb;

use crate::sandbox::{Sandbox, called, cheese, fields, reason, within};

#[tokio::test]
async fn import_products_tells_of_what_is_new_only() {
    for sandbox in Sandbox::on_both_engines().await {
        let products = ["1", "2"].map(cheese);
        assert_eq!(sandbox.import(&[&products]).await, (2, 0));
        let before = sandbox.get("products/1").await.expect("found");
        assert_eq!(sandbox.import(&[&products]).await, (0, 2));
        assert_eq!(sandbox.get("products/1").await.expect("found"), before);

        let [one, two] = products;
        assert_eq!(sandbox.import(&[&[one, called("GOUDA", two), cheese("3")]]).await, (2, 1));
        let told = sandbox.told(4).await;
        let skus: Vec<_> = told.iter().map(|product| product.sku.as_str()).collect();
        assert_eq!(skus, ["1", "2", "2", "3"]);
        assert_eq!(told[2], sandbox.get("products/2").await.expect("found"));
        assert_eq!((&*told[2].title, told[2].create_time), ("GOUDA", told[1].create_time));
        assert_ne!(told[2].etag, told[1].etag);
    }
}

#[tokio::test]
async fn import_products_replaces_the_whole_product() {
    for sandbox in Sandbox::on_both_engines().await {
        sandbox.import(&[&[cheese("1")]]).await;
        let bare = pb::ProductImport { sku: "1".to_owned(), ..Default::default() };
        assert_eq!(sandbox.import(&[&[bare]]).await, (1, 0));
        let found = sandbox.get("products/1").await.expect("found");
        let expect = pb::Product {
            name: found.name.clone(),
            sku: found.sku.clone(),
            create_time: found.create_time,
            update_time: found.update_time,
            etag: found.etag.clone(),
            ..Default::default()
        };
        assert_eq!(found, expect);
    }
}

#[tokio::test]
async fn import_products_lets_the_last_word_count() {
    for sandbox in Sandbox::on_both_engines().await {
        let words: Vec<_> = ["A", "B", "C"].map(|title| called(title, cheese("1"))).into();
        assert_eq!(sandbox.import(&[&words]).await, (1, 2));
        assert_eq!(sandbox.import(&[&words]).await, (0, 3));
        let portions: Vec<_> = words.chunks(1).rev().collect();
        assert_eq!(sandbox.import(&portions).await, (2, 1));
        let titles: Vec<_> = sandbox.told(3).await.into_iter().map(|product| product.title).collect();
        assert_eq!(titles, ["C", "B", "A"]);
    }
}

#[tokio::test]
async fn import_products_takes_the_longest_paths() {
    for sandbox in Sandbox::on_both_engines().await {
        // Letters of three bytes that differ, so that no database makes less of them than there is.
        let letters: Vec<_> = ('一'..).take(4 * 85).collect();
        let titles: Vec<String> = letters.chunks(85).map(|title| title.iter().collect()).collect();
        let titles: Vec<_> = titles.iter().map(String::as_str).collect();
        assert_eq!(sandbox.import(&[&[within(&titles, cheese("1"))]]).await, (1, 0));
        let category = sandbox.get("products/1").await.expect("found").category;
        assert_eq!(category, format!("categories/{}", titles.join(".")));
    }
}

#[tokio::test]
async fn import_products_names_what_it_refuses() {
    for sandbox in Sandbox::on_both_engines().await {
        let long = "x".repeat(257);
        // In NFC each of these letters is two.
        let growing = "\u{958}".repeat(85);
        for (product, field) in [
            (cheese(""), "products[1].sku"),
            (cheese("a/b"), "products[1].sku"),
            (called(&long, cheese("2")), "products[1].title"),
            (called("a\0b", cheese("2")), "products[1].title"),
            (pb::ProductImport { brand: long.clone(), ..cheese("2") }, "products[1].brand"),
            (
                pb::ProductImport { manufacturer_id: long.clone(), ..cheese("2") },
                "products[1].manufacturer_id",
            ),
            (pb::ProductImport { package_size: long.clone(), ..cheese("2") }, "products[1].package_size"),
            (within(&["GROCERY", " "], cheese("2")), "products[1].category_path[1]"),
            (within(&[&long], cheese("2")), "products[1].category_path[0]"),
            (within(&["A"; 9], cheese("2")), "products[1].category_path"),
            (within(&[&long[..256]; 4], cheese("2")), "products[1].category_path"),
            (within(&[&growing[..]; 3], cheese("2")), "products[1].category_path"),
        ] {
            let error = sandbox.try_import(&[&[cheese("1"), product]]).await.expect_err("refused");
            assert_eq!(
                (reason(&error), fields(&error)),
                ("INVALID_REQUEST".to_owned(), vec![field.to_owned()])
            );
        }
        assert_eq!(
            fields(&sandbox.try_import(&[&vec![cheese("1"); 10_001]]).await.expect_err("refused")),
            ["products"]
        );
        let standing = sandbox.list(pb::ListProductsRequest::default()).await.expect("listed").products;
        assert_eq!(standing, [], "a refused portion leaves nothing behind");
    }
}
