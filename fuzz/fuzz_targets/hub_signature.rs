#![no_main]
zapbus_fuzz::fuzz!("hub_signature");
