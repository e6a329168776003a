#![no_main]
zapbus_fuzz::fuzz!("webhook_signature");
