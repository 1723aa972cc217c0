//! A listener that Envoy reads from a file, so that a test can change it while Envoy runs.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use crate::bootstrap::structure;
use crate::envoy::{Envoy, folder};
use crate::flood::until;

/// The file. It is deleted when this is dropped.
pub struct Listeners {
    folder: PathBuf,
    listener: Value,
    version: u64,
}

impl Listeners {
    /// Takes the listener out of a bootstrap, which reads it from a file from then on.
    pub fn of(bootstrap: &mut Value) -> Self {
        let listener = bootstrap["static_resources"]["listeners"].take()[0].take();
        bootstrap["static_resources"]["listeners"] = json!([]);
        let mut listeners = Self { folder: folder(), listener, version: 0 };
        listeners.write();
        bootstrap["node"] = json!({"id": "test", "cluster": "test"});
        bootstrap["dynamic_resources"] = json!({"lds_config": {
            "resource_api_version": "V3",
            "path_config_source": {"path": listeners.folder.join("listeners.json")},
        }});
        listeners
    }

    /// Gives the filter another configuration, and waits until new connections have it.
    pub fn configure(&mut self, config: &Value, envoy: &Envoy) {
        let plugin = "/filter_chains/0/filters/0/typed_config/http_filters/0/typed_config/config/configuration";
        *self.listener.pointer_mut(plugin).expect("the listener has the filter") = structure(config);
        self.write();
        let taken = || envoy.stat("listener_manager.listener_in_place_updated") >= self.version - 1;
        until(Duration::from_secs(20), taken, || envoy.log());
        // Workers take it over one after the other, soon.
        std::thread::sleep(Duration::from_millis(300));
    }

    fn write(&mut self) {
        self.version += 1;
        self.listener["@type"] = json!("type.googleapis.com/envoy.config.listener.v3.Listener");
        let resources = json!({"version_info": self.version.to_string(), "resources": [self.listener]});
        let (part, whole) = (self.folder.join("part"), self.folder.join("listeners.json"));
        std::fs::write(&part, resources.to_string()).expect("the file is written");
        // Envoy looks again when a file is moved there.
        std::fs::rename(part, whole).expect("and put in place");
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
