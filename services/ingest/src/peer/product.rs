//! Records as products.

use omnimesh_proto::catalog::v1::ProductImport;

use super::Context;
use crate::{
    definition::ProductMap,
    mapping::{Parsed, Source, Template},
};

#[derive(Debug)]
pub(super) struct Mapping {
    sku: Template,
    title: Option<Template>,
    manufacturer_id: Option<Template>,
    brand: Option<Template>,
    category_path: Vec<Template>,
    package_size: Option<Template>,
}

impl Mapping {
    pub(super) fn new(map: &ProductMap, source: Source<'_>) -> Result<Self, String> {
        let at = |field: &'static str| move |reason: String| format!("map.product.{field}: {reason}");
        let text = |field: &'static str, text: &Option<String>| {
            text.as_ref().map(|text| Template::new(text, source)).transpose().map_err(at(field))
        };
        let path: Result<_, _> = map.category_path.iter().map(|text| Template::new(text, source)).collect();
        Ok(Self {
            sku: Template::new(&map.sku, source).map_err(at("sku"))?,
            title: text("title", &map.title)?,
            manufacturer_id: text("manufacturer_id", &map.manufacturer_id)?,
            brand: text("brand", &map.brand)?,
            category_path: path.map_err(at("category_path"))?,
            package_size: text("package_size", &map.package_size)?,
        })
    }

    pub(super) fn record(&self, context: Context<'_>, record: &Parsed<'_>) -> Result<ProductImport, String> {
        let (schema, scope) = (context.schema, record.scope());
        let text = |template: &Option<Template>| {
            template.as_ref().map_or(Ok(String::new()), |template| template.or_empty(schema, scope))
        };
        let mut category_path = Vec::with_capacity(self.category_path.len());
        for template in &self.category_path {
            let Some(title) = template.text(schema, scope)? else { break };
            category_path.push(title.into_owned());
        }
        Ok(ProductImport {
            sku: self.sku.required(schema, scope, "the sku")?,
            title: text(&self.title)?,
            manufacturer_id: text(&self.manufacturer_id)?,
            brand: text(&self.brand)?,
            category_path,
            package_size: text(&self.package_size)?,
        })
    }
}
