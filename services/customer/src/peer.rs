//! The identity service as this one needs it.

use mesh::{Channel, MAX_MESSAGE_BYTES, PeerError};
use omnimesh_proto::identity::v1::{
    ResolveIdentityRequest, identity_service_client::IdentityServiceClient, resolve_identity_request::Key,
};
use types::GoldenId;

use crate::domain::Clue;

pub(crate) const IDENTITY_SERVICE: &str = "omnimesh.identity.v1.IdentityService";

/// Who is who.
#[derive(Debug, Clone)]
pub(crate) struct Identities(IdentityServiceClient<Channel>);

impl Identities {
    pub(crate) fn new(channel: Channel) -> Self {
        Self(IdentityServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES))
    }

    /// The golden id of whoever has this key or record; none if nobody has.
    pub(crate) async fn resolve_identity(&self, clue: Clue) -> Result<Option<GoldenId>, PeerError> {
        let key = match clue {
            Clue::Source(source) => Key::Source(source.into()),
            Clue::Email(email) => Key::Email(email),
            Clue::Phone(phone) => Key::Phone(phone),
            Clue::LoyaltyCard(number) => Key::LoyaltyCard(number),
        };
        let answer = self.0.clone().resolve_identity(ResolveIdentityRequest { key: Some(key) }).await;
        match answer.map_err(|status| PeerError::new(IDENTITY_SERVICE, status)) {
            Ok(answer) => {
                Ok(answer.into_inner().identity.and_then(|identity| identity.golden_id.parse().ok()))
            }
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }
}
