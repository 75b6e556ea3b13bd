//! What a route does to a request before it goes up, and to a reply before it goes down.

use http::header::{CONTENT_TYPE, LOCATION, SET_COOKIE};
use http::{HeaderMap, HeaderValue, StatusCode};

use super::hash::SetCookies;
use super::{Action, Forward, Matched, Redirect};
use crate::call::Call;
use crate::reply::{LocalReply, Reply};

impl Matched {
    /// Makes the request what the upstream is to see: headers, authority, path.
    pub(crate) fn prepare_request(&self, call: &mut Call, forward: &Forward) {
        for rules in &self.request_rules {
            rules.apply_request(call);
        }
        forward.rewrite(call);
    }

    /// The reply of a route that forwards nothing.
    pub(crate) fn answer(&self, call: &mut Call) -> Reply {
        let (status, body) = match &self.action {
            Action::Forward(_) => (StatusCode::NOT_FOUND, "".into()),
            Action::Redirect(redirect) => (redirect.status, "".into()),
            Action::Direct(direct) => (direct.status, direct.body.clone()),
        };
        let mut reply = LocalReply::new(status, body, "direct_response");
        let location = match &self.action {
            Action::Redirect(redirect) => redirect.location(call),
            Action::Direct(_) if status == StatusCode::CREATED || status.is_redirection() => {
                Redirect::to_itself(status).location(call)
            }
            _ => None,
        };
        if let Some(location) = location {
            reply = reply.with_header(LOCATION, location);
        }
        reply.render(call)
    }

    /// Changes the headers of a reply as the configuration says: of what the upstream answers, the route or the
    /// router, not of what filters answer.
    pub(crate) fn finish_reply(&self, call: &mut Call, reply: &mut Reply) {
        if reply.local {
            return self.finish_local(call, reply);
        }
        if let Some(SetCookies(cookies)) = call.kept.remove() {
            for cookie in cookies.into_iter().filter_map(|cookie| HeaderValue::try_from(cookie).ok()) {
                reply.headers.append(SET_COOKIE, cookie);
            }
        }
        self.apply_rules(call, reply.status, &mut reply.headers);
    }

    /// What the edge says itself is told last: the rules see none of it, and change it only where it is plain text.
    fn finish_local(&self, call: &Call, reply: &mut Reply) {
        let mut headers = HeaderMap::new();
        self.apply_rules(call, reply.status, &mut headers);
        let named = headers.remove(CONTENT_TYPE);
        if let (Some(named), Some(own)) = (named, reply.headers.get_mut(CONTENT_TYPE))
            && own == "text/plain"
        {
            *own = named;
        }
        for (name, value) in &reply.headers {
            headers.insert(name, value.clone());
        }
        reply.headers = headers;
    }

    fn apply_rules(&self, call: &Call, status: StatusCode, headers: &mut HeaderMap) {
        for rules in &self.response_rules {
            rules.apply_response(call, status, headers);
        }
    }
}
