//! What a route does to a request before it goes up, and to a reply before it goes down.

use http::header::{CONTENT_TYPE, LOCATION, SET_COOKIE};
use http::{HeaderMap, HeaderValue, StatusCode};

use super::hash::SetCookies;
use super::{Action, Forward, Matched};
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
        let (status, location, body) = match &self.action {
            Action::Forward(_) => (StatusCode::NOT_FOUND, None, String::new()),
            Action::Redirect(redirect) => (redirect.status, redirect.location(call), String::new()),
            Action::Direct(direct) => {
                (direct.status, None, String::from_utf8_lossy(&direct.body).into_owned())
            }
        };
        let mut headers = HeaderMap::new();
        if let Some(location) = location {
            headers.insert(LOCATION, location);
        }
        self.apply_rules(call, status, &mut headers);
        let mut reply = LocalReply::new(status, body, "direct_response").render(call);
        // The configuration may name another type than that of plain text; a gRPC reply has its own.
        if !call.is_grpc()
            && reply.headers.contains_key(CONTENT_TYPE)
            && let Some(named) = headers.remove(CONTENT_TYPE)
        {
            reply.headers.insert(CONTENT_TYPE, named);
        }
        headers.remove(CONTENT_TYPE);
        headers.extend(std::mem::take(&mut reply.headers));
        Reply { headers, ..reply }
    }

    /// Changes the headers of an upstream's reply as the configuration says; what the edge answers itself stays.
    pub(crate) fn finish_reply(&self, call: &mut Call, reply: &mut Reply) {
        if reply.local {
            return;
        }
        self.apply_rules(call, reply.status, &mut reply.headers);
        if let Some(SetCookies(cookies)) = call.kept.remove() {
            let cookies = cookies.into_iter().filter_map(|cookie| HeaderValue::try_from(cookie).ok());
            reply.headers.extend(cookies.map(|cookie| (SET_COOKIE, cookie)));
        }
    }

    fn apply_rules(&self, call: &Call, status: StatusCode, headers: &mut HeaderMap) {
        for rules in &self.response_rules {
            rules.apply_response(call, status, headers);
        }
    }
}
