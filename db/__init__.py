"""What moodsort remembers."""
