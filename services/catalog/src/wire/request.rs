//! Requests as they come in, and what is wrong with them.

use events::Begin;
use omnimesh_proto::catalog::v1 as pb;
use types::{
    InvalidRequest, Request, Sku, Violations,
    filter::{self, Condition, Field, Kind, Value},
    page::Page,
};

use crate::{
    Error,
    domain::{CategoryId, Content, Correction, Import, path, sku_from_name},
    service::Update,
};

const PORTION: usize = 10_000;
const BATCH: usize = 1_000;
/// Levels of the category tree, and bytes in a category's id and in a text: what both engines can index.
const LEVELS: usize = 8;
const ID: usize = 1024;
const TEXT: usize = 256;

const FIELDS: [Field; 3] = [
    Field { name: "brand", kind: Kind::Text },
    Field { name: "category", kind: Kind::Text },
    Field { name: "manufacturer_id", kind: Kind::Text },
];

pub(crate) fn get_product(request: &pb::GetProductRequest) -> Result<Sku, InvalidRequest> {
    sku_from_name(&request.name).map_err(|error| InvalidRequest::new("name", error))
}

pub(crate) fn batch_get_products(request: &pb::BatchGetProductsRequest) -> Result<Vec<Sku>, InvalidRequest> {
    if request.names.len() > BATCH {
        return Err(InvalidRequest::new("names", format!("holds more than {BATCH}")));
    }
    let mut violations = Violations::default();
    let skus = request.names.iter().enumerate();
    let skus =
        skus.filter_map(|(index, name)| violations.check(format!("names[{index}]"), sku_from_name(name)));
    let skus = skus.collect();
    violations.finish(Some(skus))
}

pub(crate) fn list_products(
    request: &pb::ListProductsRequest,
) -> Result<(Page, Vec<Condition>), InvalidRequest> {
    let mut filter = filter::parse(&request.filter, &FIELDS)?;
    for condition in &mut filter {
        if let ("category", Value::Text(text)) = (condition.field, &mut condition.value) {
            let id = CategoryId::from_name(text);
            let id = id.map_err(|error| InvalidRequest::new("filter", format!("`{text}` {error}")))?;
            *text = id.to_string();
        }
    }
    if !matches!(request.order_by.as_str(), "" | "sku") {
        return Err(InvalidRequest::new("order_by", "is not `sku`"));
    }
    let page = Page::new(request.page_size, &request.page_token, &[&request.filter])?;
    Ok((page, filter))
}

pub(crate) fn import_products(request: pb::ImportProductsRequest) -> Result<Vec<Import>, InvalidRequest> {
    if request.products.len() > PORTION {
        return Err(InvalidRequest::new(
            "products",
            format!("holds more than {PORTION}: send several messages"),
        ));
    }
    let mut violations = Violations::default();
    let mut imports = Vec::with_capacity(request.products.len());
    for (index, product) in request.products.into_iter().enumerate() {
        imports.extend(import(&mut violations, &format!("products[{index}]"), &product));
    }
    violations.finish(Some(imports))
}

fn import(violations: &mut Violations, at: &str, product: &pb::ProductImport) -> Option<Import> {
    let sku = violations.check(format!("{at}.sku"), product.sku.parse());
    let mut field = |name: &str, value: &str| violations.check(format!("{at}.{name}"), text(value));
    let title = field("title", &product.title);
    let manufacturer_id = field("manufacturer_id", &product.manufacturer_id);
    let brand = field("brand", &product.brand);
    let package_size = field("package_size", &product.package_size);
    let mut titles = Vec::with_capacity(product.category_path.len());
    for (level, title) in product.category_path.iter().enumerate() {
        titles.extend(violations.check(format!("{at}.category_path[{level}]"), category_title(title)));
    }
    if product.category_path.len() > LEVELS {
        violations.add(format!("{at}.category_path"), format!("has more than {LEVELS} levels"));
    }
    let path = path(titles);
    let category = path.last().map(|category| category.id.clone());
    if category.as_ref().is_some_and(|id| id.as_str().len() > ID) {
        violations.add(format!("{at}.category_path"), format!("makes an id longer than {ID} bytes"));
    }
    let content = Content {
        title: title?,
        manufacturer_id: manufacturer_id?,
        brand: brand?,
        category,
        package_size: package_size?,
    };
    Some(Import { sku: sku?, content, path })
}

fn text(value: &str) -> Result<String, String> {
    let value = value.trim();
    if value.len() > TEXT {
        Err(format!("is longer than {TEXT} bytes"))
    } else if value.chars().any(char::is_control) {
        Err("holds a control character".to_owned())
    } else {
        Ok(value.to_owned())
    }
}

fn category_title(value: &str) -> Result<String, String> {
    text(value).and_then(|title| if title.is_empty() { Err("is empty".to_owned()) } else { Ok(title) })
}

pub(crate) fn update_product(message: pb::UpdateProductRequest) -> Result<Update, InvalidRequest> {
    let method = "omnimesh.catalog.v1.CatalogService/UpdateProduct";
    let request = Request::new(method, &message.request_id, &message)?;
    let mut violations = Violations::default();
    let product = message.product.unwrap_or_default();
    let sku = violations.check("product.name", sku_from_name(&product.name));
    let paths = message.update_mask.unwrap_or_default().paths;
    if paths.is_empty() {
        violations.add("update_mask", "is required");
    }
    let mut correction = Correction::default();
    for path in paths {
        let (field, value) = match path.as_str() {
            "title" => (&mut correction.title, &product.title),
            "brand" => (&mut correction.brand, &product.brand),
            "manufacturer_id" => (&mut correction.manufacturer_id, &product.manufacturer_id),
            "package_size" => (&mut correction.package_size, &product.package_size),
            _ => {
                let known = "title, brand, manufacturer_id, package_size";
                violations.add("update_mask", format!("`{path}` cannot be set; these can: {known}"));
                continue;
            }
        };
        *field = violations.check(format!("product.{path}"), text(value));
    }
    let etag = Some(product.etag).filter(|etag| !etag.is_empty());
    violations.finish(sku.map(|sku| Update { request, sku, correction, etag }))
}

pub(crate) fn list_categories(
    request: &pb::ListCategoriesRequest,
) -> Result<(Page, Option<CategoryId>), InvalidRequest> {
    let parent = match request.parent.as_str() {
        "" => None,
        name => Some(CategoryId::from_name(name).map_err(|error| InvalidRequest::new("parent", error))?),
    };
    let page = Page::new(request.page_size, &request.page_token, &[&request.parent])?;
    Ok((page, parent))
}

pub(crate) fn watch_products(request: &pb::WatchProductsRequest) -> Result<Begin, Error> {
    filter::parse(&request.filter, &[])?;
    Begin::new(&request.resume_token, request.include_initial).map_err(|_| Error::ResumeTokenInvalid)
}
