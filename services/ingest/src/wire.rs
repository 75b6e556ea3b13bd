//! The border to the contract.

use events::Begin;
use omnimesh_proto::{ingest::v1 as pb, r#type::v1::ChangeType};
use types::{
    InvalidRequest, Request,
    filter::{self, Condition, Field, Kind},
    page::Page,
};
use uuid::Uuid;

use crate::{
    Error,
    domain::{EntityState, Progress, Quarantined, SourceState, WHOLE_OBJECT},
    event::SourceChange,
};

const FIELDS: [Field; 2] =
    [Field { name: "system", kind: Kind::Text }, Field { name: "entity", kind: Kind::Text }];

const CONNECTOR: Field = Field { name: "connector", kind: Kind::Text };

/// The system of `sources/{system}`.
pub(crate) fn system(name: &str) -> Result<&str, InvalidRequest> {
    let system = name.strip_prefix("sources/").filter(|system| !system.is_empty());
    system.ok_or_else(|| InvalidRequest::new("name", "is not of the form `sources/{system}`"))
}

/// The id of `quarantinedRecords/{record}`.
pub(crate) fn record(name: &str) -> Result<Uuid, InvalidRequest> {
    let id = name.strip_prefix("quarantinedRecords/").and_then(|id| Uuid::parse_str(id).ok());
    id.ok_or_else(|| InvalidRequest::new("name", "is not of the form `quarantinedRecords/{uuid}`"))
}

/// A request for a page of quarantined records.
#[derive(Debug)]
pub(crate) struct Listing {
    pub(crate) page: Page,
    pub(crate) conditions: Vec<Condition>,
}

/// Which sources to list.
#[derive(Debug)]
pub(crate) struct SourceListing {
    pub(crate) page: Page,
    pub(crate) conditions: Vec<Condition>,
    pub(crate) descending: bool,
}

impl TryFrom<pb::ListQuarantinedRecordsRequest> for Listing {
    type Error = InvalidRequest;

    fn try_from(request: pb::ListQuarantinedRecordsRequest) -> Result<Self, InvalidRequest> {
        if !matches!(request.order_by.as_str(), "" | "create_time") {
            return Err(InvalidRequest::new("order_by", "must be `create_time` or empty"));
        }
        let page = Page::new(request.page_size, &request.page_token, &[&request.filter])?;
        Ok(Self { page, conditions: filter::parse(&request.filter, &FIELDS)? })
    }
}

/// A request to take a record in again.
#[derive(Debug)]
pub(crate) struct Replay {
    pub(crate) id: Uuid,
    /// Nothing for the payload that was kept.
    pub(crate) payload: Option<String>,
    pub(crate) request: Request,
}

impl TryFrom<pb::ReplayQuarantinedRecordRequest> for Replay {
    type Error = InvalidRequest;

    fn try_from(message: pb::ReplayQuarantinedRecordRequest) -> Result<Self, InvalidRequest> {
        const METHOD: &str = "omnimesh.ingest.v1.IngestService/ReplayQuarantinedRecord";
        let request = Request::new(METHOD, &message.request_id, &message)?;
        let id = record(&message.name)?;
        Ok(Self { id, payload: (!message.payload.is_empty()).then_some(message.payload), request })
    }
}

impl TryFrom<&pb::ListSourcesRequest> for SourceListing {
    type Error = InvalidRequest;

    fn try_from(message: &pb::ListSourcesRequest) -> Result<Self, InvalidRequest> {
        let conditions = filter::parse(&message.filter, &[CONNECTOR])?;
        let descending = match message.order_by.as_str() {
            "" | "system" => false,
            "system desc" => true,
            _ => return Err(InvalidRequest::new("order_by", "is neither `system` nor `system desc`")),
        };
        let query = [message.filter.as_str(), &message.order_by];
        let page = Page::new(message.page_size, &message.page_token, &query)?;
        Ok(Self { page, conditions, descending })
    }
}

pub(crate) fn watch_sources(request: &pb::WatchSourcesRequest) -> Result<Begin, Error> {
    filter::parse(&request.filter, &[])?;
    Ok(Begin::new(&request.resume_token, request.include_initial)?)
}

impl From<SourceState> for pb::Source {
    fn from(source: SourceState) -> Self {
        Self {
            name: format!("sources/{}", source.system),
            etag: source.etag(),
            system: source.system,
            connector: source.connector.to_owned(),
            entities: source.entities.into_iter().map(Into::into).collect(),
            update_time: source.update_time.map(Into::into),
        }
    }
}

impl From<EntityState> for pb::SourceEntity {
    fn from(entity: EntityState) -> Self {
        Self {
            entity: entity.entity,
            landed_count: entity.landed,
            applied_count: entity.applied,
            quarantined_count: entity.quarantined,
            object_count: entity.objects,
        }
    }
}

impl From<Quarantined> for pb::QuarantinedRecord {
    fn from(record: Quarantined) -> Self {
        let position = match record.position.as_str() {
            WHOLE_OBJECT => record.object,
            position => format!("{}:{position}", record.object),
        };
        Self {
            name: format!("quarantinedRecords/{}", record.id),
            system: record.system,
            entity: record.entity,
            position,
            payload: record.payload,
            reason: record.reason,
            create_time: Some(record.create_time.into()),
        }
    }
}

impl From<Progress> for pb::RunSourceResponse {
    fn from(progress: Progress) -> Self {
        Self {
            entity: progress.entity,
            record_count: progress.applied,
            quarantined_count: progress.quarantined,
            object_count: progress.objects,
            object_total: progress.object_total,
            done: progress.done,
        }
    }
}

impl From<SourceChange> for pb::WatchSourcesResponse {
    fn from(change: SourceChange) -> Self {
        match change {
            SourceChange::Initial(source, after) => Self {
                change_type: ChangeType::Initial.into(),
                event_time: source.update_time.map(Into::into),
                source: Some(source.into()),
                resume_token: after.to_string(),
            },
            SourceChange::Changed { source, event } => Self {
                change_type: ChangeType::Changed.into(),
                source,
                event_time: event.event_time,
                resume_token: event.cursor,
            },
            SourceChange::Bookmark(cursor) => Self {
                change_type: ChangeType::Bookmark.into(),
                source: None,
                event_time: None,
                resume_token: cursor.to_string(),
            },
        }
    }
}
