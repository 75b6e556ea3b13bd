//! What must hold of a whole catalog: it comes in fast, once, and however many bring it at the same time.

use std::collections::{BTreeMap, BTreeSet};

use omnimesh_proto::catalog::v1 as pb;

use crate::sandbox::{Sandbox, called, cheese, within};

/// As many products as a supermarket chain sells, in a tree of three levels.
const PRODUCTS: usize = 92_331;

fn product(number: usize) -> pb::ProductImport {
    let [department, category, kind] = [30, 300, 2_400].map(|nodes| number % nodes);
    let path = [format!("DEPARTMENT {department}"), format!("CATEGORY {category}"), format!("KIND {kind}")];
    let product =
        pb::ProductImport { manufacturer_id: (number % 6_000).to_string(), ..cheese(&number.to_string()) };
    within(&path.each_ref().map(String::as_str), product)
}

#[tokio::test]
async fn import_products_takes_a_whole_catalog() {
    let products: Vec<_> = (0..PRODUCTS).map(product).collect();
    let portions: Vec<_> = products.chunks(2_500).collect();
    for sandbox in Sandbox::on_both_engines().await {
        assert_eq!(sandbox.import(&portions).await, (PRODUCTS as i64, 0));
        assert_eq!(sandbox.import(&portions).await, (0, PRODUCTS as i64));
        let told: BTreeSet<_> =
            sandbox.told(PRODUCTS).await.into_iter().map(|product| product.name).collect();
        assert_eq!(told.len(), PRODUCTS, "each product is told once");

        let mut counted = 0;
        let mut parents = vec![String::new()];
        let mut nodes = 0;
        while let Some(parent) = parents.pop() {
            for category in sandbox.categories(&parent).await.expect("listed") {
                nodes += 1;
                counted += category.product_count;
                parents.push(category.name);
            }
        }
        assert_eq!((nodes, counted), (30 + 300 + 2_400, PRODUCTS as i64), "each product is in one category");
    }
}

/// Concurrent imports of the same products take turns: each change is told once, and the last told is what stands.
#[tokio::test]
async fn import_products_takes_turns() {
    for sandbox in Sandbox::on_both_engines().await {
        let catalog = |title: &str| (0..200).map(|number| called(title, product(number))).collect::<Vec<_>>();
        let (one, other) = (catalog("ONE"), catalog("OTHER"));
        let (one, other) = (one.chunks(30).collect::<Vec<_>>(), other.chunks(70).collect::<Vec<_>>());
        let (one, other) = tokio::join!(sandbox.import(&one), sandbox.import(&other));
        let told = sandbox.told((one.0 + other.0) as usize).await;
        let told: BTreeMap<_, _> = told.into_iter().map(|product| (product.name.clone(), product)).collect();
        let standing = sandbox.list(pb::ListProductsRequest { page_size: 1_000, ..Default::default() }).await;
        let standing = standing.expect("listed").products.into_iter();
        assert_eq!(standing.map(|product| (product.name.clone(), product)).collect::<BTreeMap<_, _>>(), told);
    }
}
