"""How the pictures of diagram.py are drawn: shapes, boxes of shapes, a model as boxes, and the same in words."""
