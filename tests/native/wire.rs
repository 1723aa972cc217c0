//! A WebSocket connection's two directions, as Envoy has them. The fuzz target has them from here as well.

use envoy_tenancy::filter::{Filter, Flow, Passage, Piece, Step};
use envoy_tenancy::host::{Host, RequestId};

/// A connection's bytes, on their way through the filter.
pub struct Wire {
    pub id: RequestId,
    pub client: Direction,
    pub service: Direction,
    /// What has been decided of the connection, in order.
    pub decisions: Vec<&'static str>,
    /// Envoy's response code details, once it was cut.
    pub cut: Option<&'static str>,
}

/// One direction: what Envoy holds of it, and what has gone on.
#[derive(Default)]
pub struct Direction {
    held: Vec<u8>,
    is_held: bool,
    pub gone: Vec<u8>,
}

impl Direction {
    /// Carries out what happens with the bytes in hand, or held.
    fn pass(&mut self, passage: Passage, in_hand: bool) {
        match passage {
            // What is in hand goes on unless something else is said.
            Passage::Unchanged if !in_hand => return,
            Passage::Hold => {
                assert!(in_hand || self.is_held, "Envoy holds only what it has");
                self.is_held = true;
                return;
            }
            Passage::Unchanged | Passage::Pass => {}
            Passage::Rewrite { keep, then } => {
                assert!(in_hand || self.is_held, "Envoy has nothing that could be replaced");
                assert!(keep <= self.held.len(), "there is not so much to keep");
                self.held.truncate(keep);
                self.held.extend(then);
            }
        }
        self.is_held = false;
        self.gone.append(&mut self.held);
    }
}

impl Wire {
    /// The wire of an upgrade that was let through.
    pub fn new(id: RequestId) -> Self {
        Self { id, client: Direction::default(), service: Direction::default(), decisions: Vec::new(), cut: None }
    }

    /// The upgrade's response comes.
    pub fn open(&mut self, filter: &mut Filter, host: &dyn Host) {
        match filter.opened(self.id, b"101", host) {
            Some(Step::Flow(flow)) => self.carry_out(*flow, None, filter, host),
            Some(step) => panic!("{step:?}"),
            None => {}
        }
    }

    /// The client sends something.
    pub fn client(&mut self, bytes: &[u8], filter: &mut Filter, host: &dyn Host) {
        self.client.held.extend(bytes);
        self.take_client(true, false, filter, host);
    }

    /// The client sends something, and nothing after it.
    pub fn client_leaves(&mut self, bytes: &[u8], filter: &mut Filter, host: &dyn Host) {
        self.client.held.extend(bytes);
        self.take_client(true, true, filter, host);
    }

    /// The service sends something.
    pub fn service(&mut self, bytes: &[u8], filter: &mut Filter, host: &dyn Host) {
        self.take_service(bytes, false, filter, host);
    }

    /// The service sends something, and nothing after it.
    pub fn service_leaves(&mut self, bytes: &[u8], filter: &mut Filter, host: &dyn Host) {
        self.take_service(bytes, true, filter, host);
    }

    /// Carries out what became of the connection meanwhile.
    pub fn take(&mut self, steps: Vec<(RequestId, Step)>, filter: &mut Filter, host: &dyn Host) {
        for (id, step) in steps {
            if let (true, Step::Flow(flow)) = (id == self.id, step) {
                self.carry_out(*flow, None, filter, host);
            }
        }
    }

    fn take_client(&mut self, in_hand: bool, is_last: bool, filter: &mut Filter, host: &dyn Host) {
        let held = self.client.held.clone();
        let read = |from: usize, most: usize| held[from..held.len().min(from + most)].to_vec();
        let flow = filter.client_piece(self.id, Piece { size: held.len(), read: &read, is_last }, host);
        self.carry_out(flow, in_hand.then_some(true), filter, host);
    }

    fn take_service(&mut self, bytes: &[u8], is_last: bool, filter: &mut Filter, host: &dyn Host) {
        self.service.held.extend(bytes);
        let held = self.service.held.clone();
        let read = |from: usize, most: usize| held[from..held.len().min(from + most)].to_vec();
        let flow = filter.service_piece(self.id, Piece { size: held.len(), read: &read, is_last }, host);
        self.carry_out(flow, Some(false), filter, host);
    }

    /// Carries out a flow where the client's bytes are in hand (`true`), the service's, or none.
    fn carry_out(&mut self, flow: Flow, in_hand: Option<bool>, filter: &mut Filter, host: &dyn Host) {
        self.decisions.extend(flow.verdicts.iter().map(|verdict| verdict.decision));
        self.service.pass(flow.service, in_hand == Some(false));
        self.client.pass(flow.client, in_hand == Some(true));
        if let Some(cut) = flow.cut {
            self.cut = Some(cut.details());
        } else if flow.proceeds {
            self.take_client(false, false, filter, host);
        }
    }
}
