//! Between messages and questions about features: the border where violations get their fields' names.

use std::io::Cursor;

use arrow::{
    array::RecordBatch,
    compute::concat_batches,
    datatypes::{DataType, Field},
    error::ArrowError,
    ipc::reader::StreamReader,
};
use omnimesh_proto::feature::v1 as pb;
use types::{InvalidRequest, Timestamp, Violations};

use super::view::{self, Unit, View};

/// The largest numbers of features, entities and rows of a spine in a request.
const FEATURES: usize = 1_000;
const ENTITIES: usize = 1_000;
const ROWS: usize = 1_000_000;
/// Stands for all of a view's features.
const ALL: &str = "*";

/// A feature that is asked for.
#[derive(Debug, Clone)]
pub(crate) struct Feature {
    pub(crate) name: String,
    /// Its view, among those asked for.
    pub(crate) view: usize,
    /// Its place among the features of the view that are asked for.
    pub(crate) place: usize,
    pub(crate) unit: Unit,
}

impl Feature {
    /// Its column in an answer.
    pub(crate) fn field(&self) -> Field {
        Field::new(&self.name, self.unit.data_type(), true)
    }
}

/// The features that are asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Asked {
    /// In the order asked for.
    pub(crate) features: Vec<Feature>,
    /// Each view, and which of its features are asked for.
    pub(crate) views: Vec<(&'static View, Vec<usize>)>,
}

impl Asked {
    fn add(&mut self, view: &'static View, index: usize) {
        let known = self.views.iter().position(|(known, _)| known.name == view.name);
        let number = known.unwrap_or_else(|| {
            self.views.push((view, Vec::new()));
            self.views.len() - 1
        });
        let places = &mut self.views[number].1;
        let feature = &view.features[index];
        let name = format!("{}:{}", view.name, feature.name);
        self.features.push(Feature { name, view: number, place: places.len(), unit: feature.unit });
        places.push(index);
    }
}

/// The features of a request, each once.
pub(crate) fn features(names: &[String]) -> Result<Asked, InvalidRequest> {
    let mut violations = Violations::default();
    let mut asked = Asked::default();
    for (number, name) in names.iter().enumerate() {
        let Some((view, places)) = violations.check(format!("features[{number}]"), find(name)) else {
            continue;
        };
        for place in places {
            asked.add(view, place);
        }
    }
    let mut distinct: Vec<_> = asked.features.iter().map(|feature| feature.name.as_str()).collect();
    distinct.sort_unstable();
    if let Some(pair) = distinct.windows(2).find(|pair| pair[0] == pair[1]) {
        violations.add("features", format!("names {} twice", pair[0]));
    }
    if distinct.len() > FEATURES {
        violations.add("features", format!("are {}; ask for at most {FEATURES}", distinct.len()));
    }
    if names.is_empty() {
        violations.add("features", "is empty; ListFeatures names what there is");
    }
    violations.finish(Some(asked))
}

fn find(name: &str) -> Result<(&'static View, Vec<usize>), String> {
    let (view, feature) = name.split_once(':').ok_or("is not {view}:{feature}")?;
    let views = || view::ALL.iter().map(|view| view.name).collect::<Vec<_>>().join(", ");
    let view = view::find(view).ok_or_else(|| format!("is of no view; there are {}", views()))?;
    let is_asked = |name: &str| feature == ALL || feature == name;
    let features = view.features.iter().enumerate().filter(|(_, feature)| is_asked(&feature.name));
    let places: Vec<_> = features.map(|(place, _)| place).collect();
    match places.is_empty() {
        true => Err(format!("is not in {}; ListFeatures names what there is", view.name)),
        false => Ok((view, places)),
    }
}

/// The ids of a request's entities: for each entity one for each view.
pub(crate) fn entities(entities: Vec<pb::Entity>, asked: &Asked) -> Result<Vec<Vec<String>>, InvalidRequest> {
    let mut violations = Violations::default();
    if entities.is_empty() || entities.len() > ENTITIES {
        violations.add("entities", format!("are {}; ask for 1 to {ENTITIES}", entities.len()));
    }
    let ids = entities.into_iter().enumerate().map(|(number, entity)| {
        let id = |(view, _): &(&'static View, Vec<usize>)| {
            let id = entity.ids.get(view.entity).cloned();
            id.ok_or_else(|| format!("lacks `{}`, by which {} knows its entities", view.entity, view.name))
        };
        let ids: Vec<_> = asked.views.iter().map(id).collect();
        ids.into_iter().filter_map(|id| violations.check(format!("entities[{number}].ids"), id)).collect()
    });
    let ids = ids.collect();
    violations.finish(Some(ids))
}

/// The table of a request.
pub(crate) fn spine(bytes: &[u8]) -> Result<RecordBatch, InvalidRequest> {
    let unreadable = |error: ArrowError| {
        InvalidRequest::new("spine", format!("is not an Arrow IPC stream that can be read: {error}"))
    };
    let reader = StreamReader::try_new(Cursor::new(bytes), None).map_err(unreadable)?;
    let schema = reader.schema();
    let mut batches = Vec::new();
    let mut rows = 0;
    for batch in reader {
        let batch = batch.map_err(unreadable)?;
        rows += batch.num_rows();
        if rows > ROWS {
            return Err(InvalidRequest::new("spine", format!("has more than {ROWS} rows; ask part by part")));
        }
        batches.push(batch);
    }
    if rows == 0 {
        return Err(InvalidRequest::new("spine", "has no rows"));
    }
    concat_batches(&schema, &batches).map_err(unreadable)
}

/// Every feature, by name.
pub(crate) fn catalogue() -> impl Iterator<Item = pb::Feature> {
    view::ALL.iter().flat_map(|view| {
        view.features.iter().map(|feature| {
            let kind = match feature.unit.data_type() {
                DataType::Int64 => pb::FeatureType::Integer,
                _ => pb::FeatureType::Time,
            };
            pb::Feature {
                name: format!("{}:{}", view.name, feature.name),
                entity: view.entity.to_owned(),
                r#type: kind.into(),
                unit: feature.unit.as_str().to_owned(),
                description: feature.doc.clone(),
            }
        })
    })
}

/// A value on the wire.
pub(crate) fn value(unit: Unit, value: Option<i64>) -> pb::FeatureValue {
    use pb::feature_value::Value;
    let value = value.map(|value| match unit {
        Unit::Time => Value::Time(Timestamp::from_micros(value).into()),
        _ => Value::Integer(value),
    });
    pb::FeatureValue { value }
}
