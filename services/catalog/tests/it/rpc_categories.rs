//! `ListCategories`: the tree as the products have made it.

use omnimesh_proto::catalog::v1 as pb;

use crate::sandbox::{Sandbox, cheese, fields, reason, within};

fn category(id: &str, title: &str, parent: &str, product_count: i64) -> pb::Category {
    pb::Category {
        name: format!("categories/{id}"),
        title: title.to_owned(),
        parent: parent.to_owned(),
        product_count,
    }
}

#[tokio::test]
async fn list_categories_walks_down_the_tree() {
    for sandbox in Sandbox::on_both_engines().await {
        assert_eq!(sandbox.categories("").await.expect("listed"), []);
        let products = [
            cheese("1"),
            cheese("2"),
            within(&["GROCERY"], cheese("3")),
            within(&["Grocery", "FRZN MEAT/FISH"], cheese("4")),
            within(&["DELI"], cheese("5")),
            within(&[], cheese("6")),
        ];
        sandbox.import(&[&products]).await;
        let (top, grocery) = ("", "categories/grocery");
        let expect = [category("deli", "DELI", top, 1), category("grocery", "GROCERY", top, 1)];
        assert_eq!(sandbox.categories(top).await.expect("listed"), expect);
        let expect = [
            category("grocery.cheese", "CHEESE", grocery, 0),
            category("grocery.frzn-meat-fish", "FRZN MEAT/FISH", grocery, 1),
        ];
        assert_eq!(sandbox.categories(grocery).await.expect("listed"), expect);
        let cheese = "categories/grocery.cheese";
        let expect = [category("grocery.cheese.shredded", "SHREDDED", cheese, 2)];
        assert_eq!(sandbox.categories(cheese).await.expect("listed"), expect);
        assert_eq!(sandbox.categories("categories/grocery.cheese.shredded").await.expect("listed"), []);
    }
}

#[tokio::test]
async fn list_categories_keeps_titles_of_any_script_apart() {
    for sandbox in Sandbox::on_both_engines().await {
        let products = [
            within(&["食品", "米飯"], cheese("1")),
            within(&["飲料", "紅茶"], cheese("2")),
            within(&["Essen", "Käse"], cheese("3")),
            within(&["Essen", "Köse"], cheese("4")),
            within(&["Essen", "K se"], cheese("5")),
            within(&["ESSEN", "KA\u{308}SE"], cheese("6")),
        ];
        sandbox.import(&[&products]).await;
        let (top, food, drinks, essen) = ("", "categories/食品", "categories/飲料", "categories/essen");
        let mut found = Vec::new();
        for parent in [top, food, drinks, essen] {
            found.extend(sandbox.categories(parent).await.expect("listed"));
        }
        // How letters of other scripts are ordered is the database's.
        found.sort_by(|a, b| a.name.cmp(&b.name));
        let expect = [
            category("essen", "Essen", top, 0),
            category("essen.k-se", "K se", essen, 1),
            category("essen.käse", "Käse", essen, 2),
            category("essen.köse", "Köse", essen, 1),
            category("食品", "食品", top, 0),
            category("食品.米飯", "米飯", food, 1),
            category("飲料", "飲料", top, 0),
            category("飲料.紅茶", "紅茶", drinks, 1),
        ];
        assert_eq!(found, expect);
    }
}

#[tokio::test]
async fn list_categories_counts_what_is_there_now() {
    for sandbox in Sandbox::on_both_engines().await {
        let put = |path: &'static [&str]| within(path, cheese("1"));
        sandbox.import(&[&[put(&["A"])], &[put(&["B"])]]).await;
        let expect = [category("a", "A", "", 0), category("b", "B", "", 1)];
        assert_eq!(sandbox.categories("").await.expect("listed"), expect);
    }
}

#[tokio::test]
async fn list_categories_pages_by_name() {
    for sandbox in Sandbox::on_both_engines().await {
        let titles: Vec<_> = (10..20).map(|number| format!("AISLE{number}")).collect();
        let products: Vec<_> = titles.iter().map(|title| within(&["STORE", title], cheese(title))).collect();
        sandbox.import(&[&products]).await;
        let mut request = pb::ListCategoriesRequest {
            parent: "categories/store".to_owned(),
            page_size: 3,
            ..Default::default()
        };
        let mut seen = Vec::new();
        loop {
            let page =
                sandbox.client.clone().list_categories(request.clone()).await.expect("listed").into_inner();
            seen.extend(page.categories.into_iter().map(|category| category.title));
            request.page_token = page.next_page_token;
            if request.page_token.is_empty() {
                break;
            }
        }
        assert_eq!(seen, titles);
    }
}

#[tokio::test]
async fn list_categories_refuses_what_is_no_category() {
    for sandbox in Sandbox::on_both_engines().await {
        let error = sandbox.categories("categories/grocery").await.expect_err("absent");
        assert_eq!((error.code(), reason(&error)), (tonic::Code::NotFound, "CATEGORY_NOT_FOUND".to_owned()));
        for (request, field) in [
            (pb::ListCategoriesRequest { parent: "grocery".to_owned(), ..Default::default() }, "parent"),
            (pb::ListCategoriesRequest { page_size: -1, ..Default::default() }, "page_size"),
            (pb::ListCategoriesRequest { page_token: "x".to_owned(), ..Default::default() }, "page_token"),
        ] {
            let error = sandbox.client.clone().list_categories(request).await.expect_err("refused");
            assert_eq!(
                (reason(&error), fields(&error)),
                ("INVALID_REQUEST".to_owned(), vec![field.to_owned()])
            );
        }
    }
}
