"""A small GAN: two networks, two optimizers, three losses. The generator learns to draw points on a circle.

One step is one round: the discriminator's and the generator's losses of a round have the same step number.
"""

import math

import torch
from torch import nn

import looptap

looptap.autolog()

NOISE = 4
BATCH_SIZE = 64
STEPS = 60
LR_D = 1e-3
LR_G = 5e-4


def circle(count: int) -> torch.Tensor:
    angle = torch.rand(count) * 2 * math.pi
    return torch.stack([angle.cos(), angle.sin()], dim=1)


class Generator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.main = nn.Sequential(nn.Linear(NOISE, 32), nn.ReLU(), nn.Linear(32, 2))

    def forward(self, noise: torch.Tensor) -> torch.Tensor:
        points: torch.Tensor = self.main(noise)
        return points


class Discriminator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.main = nn.Sequential(nn.Linear(2, 32), nn.LeakyReLU(0.2), nn.Linear(32, 1))

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.main(points)
        return logits


torch.manual_seed(2)
netG = Generator()
netD = Discriminator()
optimizerD = torch.optim.Adam(netD.parameters(), lr=LR_D, betas=(0.5, 0.999))
optimizerG = torch.optim.Adam(netG.parameters(), lr=LR_G, betas=(0.5, 0.999))
criterion = nn.BCEWithLogitsLoss()
real = torch.ones(BATCH_SIZE, 1)
fake = torch.zeros(BATCH_SIZE, 1)

for step in range(STEPS):
    netD.zero_grad()
    errD_real = criterion(netD(circle(BATCH_SIZE)), real)
    errD_real.backward()
    drawn = netG(torch.randn(BATCH_SIZE, NOISE))
    errD_fake = criterion(netD(drawn.detach()), fake)
    errD_fake.backward()
    optimizerD.step()

    netG.zero_grad()
    errG = criterion(netD(drawn), real)
    errG.backward()
    optimizerG.step()
    print(f"step {step} errD_real {errD_real.item()!r} errD_fake {errD_fake.item()!r} errG {errG.item()!r}")
