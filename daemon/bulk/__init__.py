"""Archives of millions of images, judged on all that Ray has: one machine or a cluster."""
