#![no_main]
zapbus_fuzz::fuzz!("encryption_key");
