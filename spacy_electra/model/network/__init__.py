"""The networks: encoder, generator and discriminator."""
