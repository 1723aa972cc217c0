//! What clients say, and what they are told: JSON texts, and nothing of what is in their `data`.

use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::name::{MAX_NAME_BYTES, is_name};
use crate::document::{Faults, Member, document, fault, identifier, members, text, word};
use crate::identifier::Identifier;

/// A client's message.
#[derive(Debug)]
pub enum FromClient<'a> {
    /// Who it is, and of which tenant. Whether that is so was judged by the filter where it had to be.
    Auth {
        /// The token, unless there is none.
        token: Option<String>,
        /// The tenant.
        tenant_id: Identifier,
    },
    /// A sign of life.
    Ping,
    /// For every connection of the tenant.
    Broadcast {
        /// What to pass on.
        data: &'a RawValue,
    },
    /// For one connection, or one user's.
    Send {
        /// Which.
        to: String,
        /// What to pass on.
        data: &'a RawValue,
    },
}

#[derive(Clone, Copy)]
enum Action {
    Auth,
    Ping,
    Broadcast,
    Send,
}

const ACTIONS: &[(&str, Action)] =
    &[("auth", Action::Auth), ("ping", Action::Ping), ("broadcast", Action::Broadcast), ("send", Action::Send)];

impl<'a> FromClient<'a> {
    /// The message that this text is, or all that is wrong with it.
    pub fn parse(json: &'a str) -> Result<Self, Faults> {
        let mut faults = Faults::new();
        let members = document(json.as_bytes(), &mut faults).and_then(|raw| members(raw, "", &mut faults));
        let Some(members) = members else { return Err(faults) };
        let action = find(&members, "action", &mut faults);
        let action = action.and_then(|raw| word(raw, "action", ACTIONS, &mut faults));
        let message = match action {
            None => None,
            Some(Action::Ping) => {
                expect_only(&members, &["action"], &mut faults);
                Some(Self::Ping)
            }
            // The filter may know of further members here, and its judgement is the one that counts.
            Some(Action::Auth) => {
                let token = members.iter().find(|member| member.key == "token");
                let token = token.map(|member| text(member.value, "token", &mut faults));
                let tenant_id = find(&members, "tenantId", &mut faults);
                let tenant_id = tenant_id.and_then(|raw| identifier(raw, "tenantId", &mut faults));
                tenant_id.map(|tenant_id| Self::Auth { token: token.flatten(), tenant_id })
            }
            Some(Action::Broadcast) => {
                expect_only(&members, &["action", "data"], &mut faults);
                find(&members, "data", &mut faults).map(|data| Self::Broadcast { data })
            }
            Some(Action::Send) => {
                expect_only(&members, &["action", "to", "data"], &mut faults);
                let to = find(&members, "to", &mut faults).and_then(|raw| recipient(raw, &mut faults));
                let data = find(&members, "data", &mut faults);
                to.zip(data).map(|(to, data)| Self::Send { to, data })
            }
        };
        match (message, faults.is_empty()) {
            (Some(message), true) => Ok(message),
            _ => Err(faults),
        }
    }
}

/// Whom a `to` means.
pub fn recipient(raw: &RawValue, faults: &mut Faults) -> Option<String> {
    let to = text(raw, "to", faults)?;
    let fits = is_name(&to);
    if !fits {
        let expected = format!("1 to {MAX_NAME_BYTES} bytes without control characters");
        fault(faults, "to", format!("not a user or a connection, expected {expected}"));
    }
    fits.then_some(to)
}

fn find<'a>(members: &[Member<'a>], key: &str, faults: &mut Faults) -> Option<&'a RawValue> {
    let found = members.iter().find(|member| member.key == key).map(|member| member.value);
    if found.is_none() {
        fault(faults, "", format!("{key} is missing"));
    }
    found
}

fn expect_only(members: &[Member], keys: &[&str], faults: &mut Faults) {
    for member in members.iter().filter(|member| !keys.contains(&member.key.as_str())) {
        member.unknown(keys, faults);
    }
}

/// What a client is told, its members in the order in which people read them.
#[derive(Serialize)]
struct ToClient<'a> {
    action: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<&'a str>,
    data: &'a RawValue,
}

/// That it is heard.
pub const AUTHENTICATED: &str = r#"{"action":"auth","success":true}"#;
/// A sign of life.
pub const PONG: &str = r#"{"action":"pong"}"#;

/// What somebody says to every connection of the tenant.
pub fn broadcast(from: &str, data: &RawValue) -> String {
    written(&ToClient { action: "broadcast", from: Some(from), data })
}

/// What somebody says to a client.
pub fn sent(from: &str, data: &RawValue) -> String {
    written(&ToClient { action: "send", from: Some(from), data })
}

/// What the application says.
pub fn message(data: &RawValue) -> String {
    written(&ToClient { action: "message", from: None, data })
}

/// That a message is none.
pub fn invalid(faults: &Faults) -> String {
    let listed: Vec<String> = faults.iter().map(|fault| fault.to_string()).collect();
    error("VALIDATION_ERROR", &listed.join("; "))
}

/// That the tenant has no such client. It says the same whether or not another tenant has one.
pub fn no_such_recipient(to: &str) -> String {
    error("NOT_FOUND", &format!("No connection of this tenant is called {to:?}, and no user who is connected"))
}

/// That a message may not have reached the other instances.
pub fn unreachable() -> String {
    error("SERVICE_UNAVAILABLE", "The message may not have reached every instance")
}

fn error(code: &str, message: &str) -> String {
    json!({"action": "error", "error": {"code": code, "message": message}}).to_string()
}

fn written(message: &ToClient) -> String {
    // Texts and what was JSON before: nothing in it can fail to serialise.
    serde_json::to_string(message).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_with_all_their_faults() {
        for (json, expected) in [
            ("", "not JSON: EOF while parsing a value at line 1 column 0"),
            ("7", "expected an object, got a number"),
            ("{}", "action is missing"),
            (r#"{"action":"shout"}"#, r#"action: unknown value "shout", expected one of auth, ping, broadcast, send"#),
            (r#"{"action":"ping","x":1}"#, "x: unknown key, expected one of action"),
            (r#"{"action":"ping","action":"auth"}"#, "action: given twice"),
            (r#"{"action":"broadcast"}"#, "data is missing"),
            (r#"{"action":"send"}"#, "to is missing; data is missing"),
            (r#"{"action":"send","to":7,"data":1}"#, "to: expected a string, got a number"),
            (
                r#"{"action":"send","to":"","data":1}"#,
                "to: not a user or a connection, expected 1 to 256 bytes without control characters",
            ),
            (r#"{"action":"auth"}"#, "tenantId is missing"),
            (r#"{"action":"auth","token":7,"tenantId":"a"}"#, "token: expected a string, got a number"),
        ] {
            let faults = FromClient::parse(json).map(|message| format!("{message:?}")).unwrap_err();
            let listed: Vec<String> = faults.iter().map(|fault| fault.to_string()).collect();
            assert_eq!(listed.join("; "), expected, "{json}");
        }
        let auth = FromClient::parse(r#"{"action":"auth","token":"t","tenantId":"acme","v":1}"#).unwrap();
        let FromClient::Auth { token, tenant_id } = auth else { panic!("{auth:?}") };
        assert_eq!((token.as_deref(), tenant_id.as_str()), (Some("t"), "acme"));
    }

    #[test]
    fn data_is_passed_on_as_it_came() {
        let data = r#"{"b":1.0,"a":[1e400,{"b":1,"b":2}], "c":123456789012345678901234567890}"#;
        let json = format!(r#"{{"data":{data},"action":"broadcast"}}"#);
        let Ok(FromClient::Broadcast { data: parsed }) = FromClient::parse(&json) else { panic!() };
        assert_eq!(broadcast("a\"b", parsed), format!(r#"{{"action":"broadcast","from":"a\"b","data":{data}}}"#));
        assert_eq!(sent("jo", parsed), format!(r#"{{"action":"send","from":"jo","data":{data}}}"#));
        assert_eq!(message(parsed), format!(r#"{{"action":"message","data":{data}}}"#));
    }
}
