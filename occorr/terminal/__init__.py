"""What people see in a terminal, a module for each kind of answer; the only part that knows rich."""
