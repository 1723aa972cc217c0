//! A client's WebSocket, as Envoy would pass it on.

use std::net::TcpStream;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tungstenite::client::IntoClientRequest;
use tungstenite::{Error, HandshakeError, Message, WebSocket};

use crate::client::Tenancyd;

/// A token that the filter would have verified.
pub fn token(user: &str) -> String {
    format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(json!({"sub": user}).to_string()))
}

/// What a client without a token says first.
pub fn auth(tenant: &str, user: &str) -> Value {
    json!({"action": "auth", "token": token(user), "tenantId": tenant})
}

/// A connection.
pub struct Socket(pub WebSocket<TcpStream>);

impl Socket {
    /// One with these headers, or the answer that it got.
    pub fn try_open(address: &str, headers: &[(&str, &str)]) -> Result<Self, Refused> {
        let mut request = format!("ws://{address}/ws").into_client_request().unwrap();
        for (name, value) in headers {
            let name: tungstenite::http::HeaderName = name.parse().unwrap();
            request.headers_mut().append(name, value.parse().unwrap());
        }
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        match tungstenite::client(request, stream) {
            Ok((socket, _)) => Ok(Self(socket)),
            Err(HandshakeError::Failure(Error::Http(answer))) => Err(answer),
            Err(error) => panic!("{error}"),
        }
    }

    /// One of a tenant's users.
    pub fn open(server: &Tenancyd, tenant: &str, user: Option<&str>) -> Self {
        let authorization = user.map(|user| format!("Bearer {}", token(user)));
        let mut headers = vec![("x-tenant-id", tenant)];
        headers.extend(authorization.as_deref().map(|value| ("authorization", value)));
        let mut socket = Self::try_open(&server.door(), &headers).unwrap_or_else(|answer| panic!("{answer:?}"));
        // Once it is answered it takes part.
        socket.say(&json!({"action": "ping"}));
        assert_eq!(socket.hear(), json!({"action": "pong"}));
        socket
    }

    pub fn say(&mut self, message: &Value) {
        self.say_text(&message.to_string());
    }

    pub fn say_text(&mut self, text: &str) {
        self.0.send(Message::text(text)).unwrap();
    }

    /// The next message, which must be one.
    #[track_caller]
    pub fn hear_text(&mut self) -> String {
        loop {
            match self.0.read() {
                Ok(Message::Text(text)) => return text.to_string(),
                Ok(Message::Ping(_) | Message::Pong(_)) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    #[track_caller]
    pub fn hear(&mut self) -> Value {
        serde_json::from_str(&self.hear_text()).unwrap()
    }

    /// That nothing has come but the answer to this.
    #[track_caller]
    pub fn heard_nothing(&mut self) {
        self.say(&json!({"action": "ping"}));
        assert_eq!(self.hear(), json!({"action": "pong"}));
    }

    /// Waits for the end, and says with which code and words it came.
    #[track_caller]
    pub fn closed(&mut self) -> (u16, String) {
        loop {
            match self.0.read() {
                Ok(Message::Close(frame)) => {
                    let frame = frame.unwrap();
                    // The answer goes out with the next read, which finds the end.
                    let end = self.0.read();
                    assert!(end.is_err(), "{end:?}");
                    return (frame.code.into(), frame.reason.to_string());
                }
                Ok(_) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// The answer to an upgrade that wasn't one.
pub type Refused = Box<tungstenite::http::Response<Option<Vec<u8>>>>;
