//! Models and states of training: safetensors.

#![no_main]

fuzz::target!("model");
