//! Which tokens a request needs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use envoy_types::pb::envoy::extensions::filters::http::jwt_authn::v3::JwtRequirement;
use envoy_types::pb::envoy::extensions::filters::http::jwt_authn::v3::jwt_requirement::RequiresType;

use super::Stats;
use super::places::{Found, Places};
use super::provider::{Audiences, Provider, Source};
use super::remote::Remote;
use super::token::{Failure, Token};
use crate::call::Call;
use crate::problem::{Path, Problem};

pub(super) type Providers = BTreeMap<String, Arc<Provider>>;

#[derive(Debug)]
pub(super) enum Requirement {
    Nothing,
    /// A token of this provider.
    Of {
        provider: Arc<Provider>,
        audiences: Option<Audiences>,
    },
    /// Tokens of any of these may be missing, or even be wrong.
    Lenient {
        providers: Vec<Arc<Provider>>,
        places: Places,
        allow_failed: bool,
    },
    Any(Vec<Self>),
    All(Vec<Self>),
}

impl Requirement {
    pub(super) fn compile(
        config: &JwtRequirement,
        providers: &Providers,
        at: &Path<'_>,
    ) -> Result<Self, Problem> {
        let all = || providers.values().cloned().collect();
        Ok(match &config.requires_type {
            None => Self::Nothing,
            Some(RequiresType::ProviderName(name)) => {
                Self::Of { provider: find(providers, name, &at.field("provider_name"))?, audiences: None }
            }
            Some(RequiresType::ProviderAndAudiences(both)) => {
                let at = at.field("provider_and_audiences");
                let provider = find(providers, &both.provider_name, &at.field("provider_name"))?;
                let audiences = (!both.audiences.is_empty()).then(|| Audiences::new(&both.audiences));
                Self::Of { provider, audiences }
            }
            Some(RequiresType::AllowMissing(_)) => Self::lenient(all(), false),
            Some(RequiresType::AllowMissingOrFailed(_)) => Self::lenient(all(), true),
            Some(RequiresType::RequiresAll(list)) => {
                let at = at.field("requires_all");
                Self::All(Self::list(list.requirements.iter(), providers, &at)?)
            }
            Some(RequiresType::RequiresAny(list)) => {
                Self::any(&list.requirements, providers, &at.field("requires_any"))?
            }
            Some(RequiresType::ExtractOnlyWithoutValidation(_)) => {
                return Err(at.field("extract_only_without_validation").problem("is not supported"));
            }
        })
    }

    /// What may be missing or wrong comes last, for the providers that are named before.
    fn any(config: &[JwtRequirement], providers: &Providers, at: &Path<'_>) -> Result<Self, Problem> {
        let (mut named, mut allow_failed) = (Vec::new(), None);
        let mut regular = Vec::new();
        for one in config {
            match &one.requires_type {
                Some(RequiresType::AllowMissing(_)) => {
                    allow_failed.get_or_insert(false);
                }
                Some(RequiresType::AllowMissingOrFailed(_)) => allow_failed = Some(true),
                other => {
                    match other {
                        Some(RequiresType::ProviderName(name)) => named.extend(providers.get(name).cloned()),
                        Some(RequiresType::ProviderAndAudiences(both)) => {
                            named.extend(providers.get(&both.provider_name).cloned());
                        }
                        _ => {}
                    }
                    regular.push(one);
                }
            }
        }
        let mut any = Self::list(regular.into_iter(), providers, at)?;
        any.extend(allow_failed.map(|allow_failed| Self::lenient(named, allow_failed)));
        Ok(Self::Any(any))
    }

    fn list<'c>(
        config: impl Iterator<Item = &'c JwtRequirement>,
        providers: &Providers,
        at: &Path<'_>,
    ) -> Result<Vec<Self>, Problem> {
        let at = at.field("requirements");
        config.enumerate().map(|(index, one)| Self::compile(one, providers, &at.index(index))).collect()
    }

    fn lenient(providers: Vec<Arc<Provider>>, allow_failed: bool) -> Self {
        let places = providers.iter().fold(Places::default(), |all, provider| all.join(&provider.places));
        Self::Lenient { providers, places, allow_failed }
    }

    /// The keys without which the request's tokens cannot be judged.
    pub(super) fn lacking(&self, call: &Call, lacking: &mut Vec<Arc<Remote>>) {
        match self {
            Self::Nothing => {}
            Self::Of { provider, audiences } => lacks(provider, audiences.as_ref(), call, lacking),
            Self::Lenient { providers, .. } => {
                providers.iter().for_each(|provider| lacks(provider, None, call, lacking));
            }
            Self::Any(all) | Self::All(all) => all.iter().for_each(|one| one.lacking(call, lacking)),
        }
    }

    pub(super) fn verify(&self, call: &mut Call, stats: &Stats) -> Result<(), Failure> {
        match self {
            Self::Nothing => Ok(()),
            Self::Of { provider, audiences } => {
                provider.places.clean(&mut call.request);
                let mut found = provider.places.find(&call.request);
                if found.is_empty() {
                    return Err(Failure::MISSING);
                }
                // A request with a good and a bad token does not pass: upstream might take the bad one.
                while let Some(one) = found.pop() {
                    judge(&one, provider, audiences.as_ref(), call, stats)?;
                }
                Ok(())
            }
            Self::Lenient { providers, places, allow_failed } => {
                places.clean(&mut call.request);
                let mut found = places.find(&call.request);
                let mut last = Ok(());
                while let Some(one) = found.pop() {
                    last = of_issuer(&one, providers)
                        .and_then(|provider| judge(&one, provider, None, call, stats));
                }
                if *allow_failed { Ok(()) } else { last }
            }
            Self::All(all) => all.iter().try_for_each(|one| one.verify(call, stats)),
            Self::Any(any) => {
                let (mut last, mut telling) = (Failure::MISSING, None);
                for one in any {
                    let Err(failure) = one.verify(call, stats) else { return Ok(()) };
                    last = failure;
                    // That a token is not there, or is another provider's, tells less than what is wrong with it.
                    if ![Failure::MISSING, Failure::UNKNOWN_ISSUER].contains(&failure) {
                        telling = Some(failure);
                    }
                }
                Err(telling.unwrap_or(last))
            }
        }
    }
}

fn find(providers: &Providers, name: &str, at: &Path<'_>) -> Result<Arc<Provider>, Problem> {
    let provider = providers.get(name).cloned();
    provider.ok_or_else(|| at.problem(format!("Required provider ['{name}'] is not configured.")))
}

/// The provider that a token names, or one that takes the tokens of all issuers.
fn of_issuer<'p>(found: &Found<'_>, providers: &'p [Arc<Provider>]) -> Result<&'p Arc<Provider>, Failure> {
    let token = Token::parse(&found.text)?;
    let named = providers.iter().find(|provider| provider.issuer == token.issuer);
    let named = named.or_else(|| providers.iter().find(|provider| provider.issuer.is_empty()));
    named.ok_or(Failure::UNKNOWN_ISSUER)
}

fn lacks(provider: &Provider, audiences: Option<&Audiences>, call: &Call, lacking: &mut Vec<Arc<Remote>>) {
    let Source::Remote(remote) = &provider.source else { return };
    let proved = |text: &str| remote.keys().is_some_and(|keys| keys.proved(text).is_some());
    let lacks = provider.places.find(&call.request).iter().any(|found| {
        !proved(&found.text)
            && Token::parse(&found.text).is_ok_and(|token| {
                found.may_be_of(&token.issuer)
                    && provider.check(&token, audiences, call.start_time).is_ok()
                    && remote.lacks(&token)
            })
    });
    if lacks {
        lacking.push(Arc::clone(remote));
    }
    remote.keep_fresh();
}

fn judge(
    found: &Found<'_>,
    provider: &Provider,
    audiences: Option<&Audiences>,
    call: &mut Call,
    stats: &Stats,
) -> Result<(), Failure> {
    let keys = provider.keys();
    let proved = keys.as_ref().ok().and_then(|keys| keys.proved(&found.text));
    let now: SystemTime = call.start_time;
    let admit = |token: &Token| match found.may_be_of(&token.issuer) {
        true => provider.check(token, audiences, now),
        false => Err(Failure::UNKNOWN_ISSUER),
    };
    let token = if let Some(token) = proved {
        stats.cache_hit.inc();
        admit(&token)?;
        token
    } else {
        stats.cache_miss.inc();
        let token = Arc::new(Token::parse(&found.text)?);
        admit(&token)?;
        keys?.prove(&found.text, &token)?;
        token
    };
    provider.accept(call, &token, found.place);
    Ok(())
}
