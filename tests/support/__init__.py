"""What tests are made of: real servers, a whole service in this process, and a real `keywright serve` beside it."""
