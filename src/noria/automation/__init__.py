"""Rules about models: what must hold before something happens."""
